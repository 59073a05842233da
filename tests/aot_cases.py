"""Programs compiled for TPUs that are not here, in a process of its own: what
`test_compile_check` asserts, as JSON on stdout.
"""

import json
import math
from functools import partial

from vaejax.aot.topology import CHIPS, names, open_slice, without_hardware

without_hardware()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from jax.sharding import NamedSharding  # noqa: E402
from jax.sharding import PartitionSpec as P  # noqa: E402

from vaejax import parallel, presets  # noqa: E402
from vaejax.aot import hlo  # noqa: E402
from vaejax.aot.check import check  # noqa: E402
from vaejax.aot.encoding import check_encoding  # noqa: E402
from vaejax.aot.program import scan  # noqa: E402
from vaejax.aot.report import (  # noqa: E402
    encoding_json,
    encoding_line,
    slice_lines,
    stand_in,
    to_json,
)
from vaejax.parallel.steps import compile_parted  # noqa: E402

TINY = {"dataset": "digits", "hidden": (16,), "latents": 2, "batch_size": 64}


def looped(experiment, feed, mesh, change):
    """The steps, of changed indices."""
    move = parallel.traced_move(experiment, feed, mesh)

    def many(state, resident, xs, root):
        xs = change(xs, root)
        return jax.lax.scan(lambda s, x: move(s, resident, x, root), state, xs)

    return many


def copied(experiment, feed, mesh):
    """Every device is given the whole batch."""
    whole = NamedSharding(mesh, P())

    def change(xs, root):
        return jax.lax.with_sharding_constraint(xs, whole)

    return compile_parted(looped(experiment, feed, mesh, change), mesh, axis=1)


def drawn(experiment, feed, mesh):
    """Indices are drawn inside, and nothing says that they are split."""

    def change(xs, root):
        return jax.random.randint(root, xs.shape, 0, 100)

    return compile_parted(looped(experiment, feed, mesh, change), mesh, axis=1)


def undonated(experiment, feed, mesh):
    """The old state is kept."""
    whole = NamedSharding(mesh, P())
    steps = looped(experiment, feed, mesh, lambda xs, _: xs)
    return jax.jit(steps, out_shardings=whole)


def main():
    """Prints a report for each case; one searches for a batch that fits, as each try
    is a compilation.
    """
    checked = partial(check, tries=0)
    place = open_slice("v5e:2x4")
    small = presets.vae(**TINY)
    game = presets.vaegan(**TINY, critic_hidden=(16,), parallel="shard_map")
    wide = partial(presets.vae, **TINY | {"hidden": (256, 256), "latents": 8})
    many = {"dataset": stand_in("4000000x4x4x1"), "hidden": (4096,), "latents": 2}
    cases = {
        "sound": (small, scan),
        "game": (game, scan),
        "copied": (small, copied),
        "drawn": (small, drawn),
        "undonated": (small, undonated),
    }
    reports = {name: checked(e, place, build) for name, (e, build) in cases.items()}
    reports["large"] = check(presets.vae(**many, batch_size=4_000_000), place)
    reports["wide"] = checked(wide(), place)
    reports["parts"] = checked(wide(fsdp=4), open_slice("v5e:2x4", fsdp=4))
    found = {name: to_json(r) | {"text": slice_lines(r)} for name, r in reports.items()}
    plain = presets.vae(**TINY, binarize="none")
    encodings = {
        "encoding": check_encoding(plain, place, 512, "f32"),
        "encoding_in_bf16": check_encoding(plain, place, 512, "bf16"),
        "encoding_of_more": check_encoding(presets.vae(**many), place, 10**8, "f32"),
    }
    for name, each in encodings.items():
        found[name] = encoding_json(each) | {"text": encoding_line(each)}
    whole = NamedSharding(place.single, P())
    scalars = [jax.ShapeDtypeStruct((), jnp.float32, sharding=whole)] * 2002
    plus = jax.jit(lambda *x: [a + 1 for a in x], donate_argnums=range(1, 2002))
    text = plus.lower(*scalars).compile().as_text()
    found["of_many_arguments"] = sorted(hlo.aliased(text))
    tpus = [n for n in names() if CHIPS[n.partition(":")[0]].platform == "tpu"]
    counts = {name: len(open_slice(name).devices) for name in tpus}
    wrong = [n for n in tpus if counts[n] != math.prod(shape_of(n))]
    print(json.dumps(found | {"misnamed": wrong}))


def shape_of(name):
    return map(int, name.partition(":")[2].split("x"))


if __name__ == "__main__":
    main()
