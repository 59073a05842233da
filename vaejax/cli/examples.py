"""Mains of the scripts that draw and fill examples."""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vaejax.apply.impute import Method, check_room, collapse
from vaejax.apply.impute import impute as fill
from vaejax.apply.query import sample as sample_model
from vaejax.apply.rows import write_npz, write_rows
from vaejax.cli.commands import keep_compiled
from vaejax.cli.effort import check_sampling, warn_of_passes
from vaejax.data.classes import labels_of
from vaejax.data.kinds import kind_of
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState
from vaejax.models import conditional, generates, with_top_k
from vaejax.samplers.cache import sampler_of_run
from vaejax.samplers.record import Sampler, SamplerName
from vaejax.stages.decoding import decoded
from vaejax.training.evaluator import conditions_to_generate
from vaejax.training.workdir import load
from vaejax.types import Key


class Choice(NamedTuple):
    """The settings of what latents are drawn from, and what decodes them."""

    sampler: SamplerName = "prior"
    components: int = 0
    refit: bool = False
    temperature: float | None = None
    top_k: int | None = None
    first: Path | None = None


PRIOR = Choice()


def write_samples(
    workdir: Path,
    num: int,
    out: Path,
    label: tuple[str, ...],
    noise: bool,
    seed: int,
    mean: bool = False,
    choice: Choice = PRIOR,
) -> None:
    """Writes samples as a picture, as arrays, or as rows of a table."""
    keep_compiled()
    name, components, again, heat, top_k, first = choice
    experiment, state = load(workdir)
    if top_k is not None:
        drawing = with_top_k(experiment.model, top_k)
        experiment = dataclasses.replace(experiment, model=drawing)
    experiment, state = decoded(experiment, state, first)
    spec = experiment.dataset.spec
    if out.suffix not in (files := kind_of(spec).files):
        raise InputError(
            f"{workdir} models {spec.kind}s: give --out a name ending in "
            f"{' or '.join(files)}"
        )
    if not generates(experiment.model):
        raise InputError(f"{workdir} holds {experiment.name}, which generates nothing")
    check_sampling(experiment, num, out.suffix == ".png")
    settings = {"components": components, "refit": again}
    sampler = sampler_of_run(workdir, experiment, state, name, **settings)
    given = conditions_to_generate(experiment, num)
    if label:
        given = given | {"y": labels_in_turn(experiment, label, num)}
    if "context" in given and np.any(given["seen"]):
        print("completes test examples: each keeps what is seen of it")
    noise = noise or (out.suffix == ".csv" and not mean)
    key = jax.random.key(seed)
    x = draw_samples(experiment, state, key, num, noise, given, heat, sampler=sampler)
    if not np.isfinite(x).all():
        raise InputError(f"{workdir} generates what is no number: its model diverged")
    if out.suffix == ".png":
        from vaejax.plots import save_grid

        save_grid(x, out)
    elif out.suffix == ".csv":
        write_rows(x, spec, out)
    else:
        names = {"columns": np.array([c.name for c in spec.columns])}
        arrays = {"x": experiment.preprocess.restore(x)}
        if "y" in given:
            arrays["y"] = labels_of(np.asarray(given["y"]), spec.class_names)
        write_npz(out, arrays | (names if spec.columns else {}))
    print(f"wrote {out}")


def fill_file(
    workdir: Path,
    source: Path,
    out: Path,
    multiple: int,
    samples: int,
    method: Method,
    seed: int,
    overwrite: bool = False,
) -> None:
    """Writes the filled examples and, of multiple imputation, each draw."""
    from vaejax.apply.tables import numbered_path, open_holey, suffix_of

    ends = (suffix_of(out).removesuffix(".gz"), suffix_of(source).removesuffix(".gz"))
    if ends[0] != ends[1]:
        raise InputError(f"--out {out}: the name must end in {suffix_of(source)}")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent}")
    keep_compiled()
    experiment, state = load(workdir)
    holey = open_holey(source, experiment.dataset.spec)
    check_room(multiple, holey.x)
    digits = len(str(multiple))
    draws = [numbered_path(out, f"{n:0{digits}d}") for n in range(1, multiple + 1)]
    for name in (out, *draws):
        if not overwrite and name.exists() and name.samefile(source):
            raise InputError(
                f"{name} is the --input: give another --out or --overwrite"
            )
    warn_of_passes(samples, len(holey.x))
    filled = fill(
        experiment,
        state,
        holey.x,
        holey.mask,
        jax.random.key(seed),
        multiple=multiple,
        samples=samples,
        method=method,
    )
    if warning := collapse(filled, samples):
        print(warning, file=sys.stderr)
    holey.write(filled.single, out)
    for name, x in zip(draws, filled.draws, strict=True):
        holey.write(x, name)
    many = f" and {multiple} draws beside it" if multiple else ""
    print(f"filled {int((~holey.mask).sum())} holes; wrote {out}{many}")


def draw_samples(
    experiment: Experiment,
    state: TrainState,
    key: Key,
    num: int,
    noise: bool,
    given: Mapping[str, Any],
    temperature: float | None = None,
    chunk: int = 10_000,
    sampler: Sampler | None = None,
) -> np.ndarray:
    """Samples `[num, *shape]`, of which no more than `chunk` are computed at once.

    The first chunk is what `vaejax.sample` draws with the key.
    """
    parts = []
    for start in range(0, num, chunk):
        count = min(chunk, num - start)
        own = jax.random.fold_in(key, start) if start else key
        some = {name: each[start : start + count] for name, each in given.items()}
        settings = {"noise": noise, "given": some, "temperature": temperature}
        settings["sampler"] = sampler
        parts.append(
            np.asarray(sample_model(experiment, state, own, count, **settings))
        )
    return np.concatenate(parts)


def labels_in_turn(
    experiment: Experiment, label: tuple[str, ...], num: int
) -> np.ndarray:
    """Indices of `num` labels that go through `label` in turn; InputError where one is
    no class of the training split, or the model is conditioned on none.
    """
    try:
        found = experiment.dataset.spec.label_index(label)
    except InputError as error:
        raise InputError(f"--label: {error}") from None
    if not conditional(experiment.model):
        raise InputError(f"{experiment.name} is not conditioned on labels")
    return np.resize(found, num)
