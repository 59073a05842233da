"""A batch split over devices: the same run by jit, shard_map and pmap."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from vaejax import InputError, parallel, presets, study, train
from vaejax.data.feed import resident_feed
from vaejax.experiment import variables_of
from vaejax.nn.layers import BatchNorm
from vaejax.parallel.shards import mean_gradient
from vaejax.training import step
from vaejax.training.loop import first_state

pytestmark = pytest.mark.devices

TINY = {"dataset": "digits", "batch_size": 16, "epochs": 1, "hidden": (16,)}


def descending(experiment):
    """With gradient descent, which forgives no factor in a gradient as Adam does."""
    players = {
        name: player._replace(optimizer=optax.sgd(1e-3))
        for name, player in experiment.players.items()
    }
    return dataclasses.replace(experiment, players=players)


def moved(experiment, devices, steps=3):
    """The state and the terms after a few steps, on the host."""
    experiment = descending(experiment)
    mesh = parallel.make_mesh(devices, 16, experiment.training.fsdp)
    feed = resident_feed(experiment.dataset.split("train"), 16, seed=0)
    resident = parallel.place(feed.resident, mesh)
    state = first_state(experiment, mesh)
    made = parallel.compile_steps(experiment, feed, mesh, state, resident)
    state, metrics, finite = made.advance(
        state, resident, feed.take(0, steps), jax.random.key(3)
    )
    assert finite
    for leaf, placed in zip(
        jax.tree.leaves(state),
        jax.tree.leaves(parallel.state_sharding(state, mesh)),
        strict=True,
    ):
        assert leaf.sharding.is_equivalent_to(placed, leaf.ndim)
        assert len(leaf.sharding.device_set) == devices
    return jax.tree.map(np.array, (state, metrics))


def assert_close(a, b):
    """Equal but for the order of sums."""
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), a, b
    )


NOISY = {
    "vae": {"latents": 3},
    "iwae": {"latents": 3, "samples": 2},
    "iwae partially": {
        "latents": 3,
        "samples": 2,
        "bound": "partially",
        "repeats": 2,
        "gradient": "dreg",
    },
    "iwae vimco": {"latents": 3, "samples": 2, "gradient": "vimco"},
    "gan": {"latents": 3, "critic_norm": "spectral"},
    "gan_conv": {"latents": 3, "channels": (4, 8)},
    "vaegan": {"latents": 3},
    "miwae": {"latents": 3, "likelihood": "bernoulli", "hide": "mcar"},
}


def noisy(name, **settings):
    """An experiment by its preset, and a word where settings are others."""
    return presets.PRESETS[name.split()[0]](**TINY | NOISY[name] | settings)


@pytest.mark.parametrize("name", ["vae", "gan_conv", "iwae partially"])
def test_any_number_of_devices_computes_the_same(name):
    experiment = noisy(name)
    one = moved(experiment, 1)
    for devices in (2, 4, 8):
        assert_close(moved(experiment, devices), one)


@pytest.mark.parametrize("name", NOISY)
def test_pmap_is_shard_map(name):
    assert_close(
        *(moved(noisy(name, parallel=mode), 4) for mode in ("shard_map", "pmap"))
    )


@pytest.mark.parametrize("name", ["autoencoder", "classifier"])
def test_shard_map_without_noise_is_jit(name):
    settings = TINY | ({"latents": 3} if name == "autoencoder" else {})
    settings |= {"binarize": "none"}
    assert_close(
        *(
            moved(presets.PRESETS[name](**settings, parallel=mode), 4)
            for mode in ("jit", "shard_map")
        )
    )


def test_devices_draw_noise_of_their_own():
    terms = [
        moved(presets.vae(**TINY, latents=3, parallel="shard_map"), devices)[1]
        for devices in (1, 4)
    ]
    assert not np.allclose(terms[0]["vae/loss"], terms[1]["vae/loss"], rtol=1e-5)


@pytest.fixture(scope="module")
def normalization():
    layer, x = BatchNorm(), jax.random.normal(jax.random.key(0), (16, 5))
    x = x + jnp.arange(16)[:, None]  # no two devices' parts are alike
    return layer, layer.init(jax.random.key(1), x), x


def test_batchnorm_is_of_the_whole_batch(normalization):
    layer, variables, x = normalization

    def loss(params, x):
        seen = {**variables, "params": params}
        y, stats = layer.apply(seen, x, mutable=["batch_stats"])
        return jnp.mean(y**3 * jnp.arange(5.0)[None]), (jnp.mean(y**2), stats)

    def part(params, x):
        return mean_gradient(lambda p: loss(p, x))(params)

    mesh = parallel.make_mesh(4, 8)
    specs = {"in_specs": (P(), P("data")), "out_specs": P()}
    split = jax.jit(jax.shard_map(part, mesh=mesh, **specs))
    params = variables["params"]
    assert_close(split(params, x), jax.grad(loss, has_aux=True)(params, x))


def test_each_device_computes_its_part():
    """A batch that is not split is computed whole by every device, silently."""
    experiment = presets.vae(**TINY, latents=3)
    feed = resident_feed(experiment.dataset.split("train"), 16, seed=0)
    move = parallel.one_move(step.train_step, experiment, feed)
    work = {}
    for devices in (1, 4):
        mesh = parallel.make_mesh(devices, 16)
        scan = parallel.compile_scan(move, mesh)
        program = scan.lower(
            first_state(experiment, mesh),
            parallel.place(feed.resident, mesh),
            feed.take(0, 2),
            jax.random.key(0),
        ).compile()
        work[devices] = program.cost_analysis()["flops"]
    # A quarter, and the optimizer's move, which every device makes whole.
    assert work[4] < work[1] / 2


WIDE = TINY | {"hidden": (64,), "latents": 3}


@pytest.mark.parametrize("name", ["vae", "vaegan"])
def test_a_state_in_parts_moves_as_a_whole_one(name):
    one = moved(presets.PRESETS[name](**WIDE), 1)
    for fsdp in (2, 8):
        assert_close(moved(presets.PRESETS[name](**WIDE, fsdp=fsdp), 8), one)


def test_devices_that_share_hold_parts_of_the_large_arrays():
    experiment = presets.vae(**WIDE, fsdp=4)
    mesh = parallel.make_mesh(8, 16, fsdp=4)
    state = first_state(experiment, mesh)
    leaves = jax.tree.leaves((state.params, state.opt_state))
    large = [leaf for leaf in leaves if leaf.size >= 4096]
    assert len(large) == 6  # two kernels of 64 x 64 pixels, with two moments of Adam
    for leaf in leaves:
        (part,) = {shard.data.size for shard in leaf.addressable_shards}
        assert part == leaf.size // (4 if leaf.size >= 4096 else 1)


def test_a_state_in_parts_is_saved_and_resumed_in_others(tmp_path):
    settings = WIDE | {"epochs": 2, "checkpoint_every": 50, "evaluate_every": 1}
    whole = train(presets.vae(**settings), tmp_path / "whole", devices=8, quiet=True)
    parts = presets.vae(**settings, fsdp=4)
    half = dataclasses.replace(
        parts, training=dataclasses.replace(parts.training, epochs=1)
    )
    train(half, tmp_path / "parts", devices=8, quiet=True)
    for fsdp in (4, 1):  # in other parts of other devices, and whole on one
        folder = shutil.copytree(tmp_path / "parts", tmp_path / f"{fsdp}")
        again = presets.vae(**settings, fsdp=fsdp)
        resumed = train(again, folder, devices=4 if fsdp > 1 else 1, quiet=True)
        assert int(resumed.step) == int(whole.step)
        assert_close(resumed.params, whole.params)


@pytest.mark.parametrize(
    ("fsdp", "mode", "message"),
    [(3, "jit", "--fsdp 3 does not divide the 8 devices"), (2, "pmap", "use jit")],
)
def test_a_state_in_parts_that_cannot_be(fsdp, mode, message):
    with pytest.raises(InputError, match=message):
        train(presets.vae(**WIDE, fsdp=fsdp, parallel=mode), devices=8, quiet=True)


def test_what_is_evaluated_is_computed_in_float32():
    """Also where matrix products are of bfloat16 unless one asks (TPUs)."""
    experiment = presets.vae(**TINY, latents=3)
    state = first_state(experiment, parallel.make_mesh(1, 1))
    batch = {"x": jnp.zeros((2, 8, 8, 1))}
    verb = parallel.compile_verb(experiment.model, "encode")
    program = str(verb.trace(variables_of(state), batch).jaxpr)
    assert program.count("dot_general") == 2  # the hidden layer and the head
    assert program.count("precision=(Precision.HIGHEST") == 2


def test_a_study_splits_replicas_and_not_their_batches(tmp_path):
    with pytest.raises(InputError, match="--parallel jit"):
        study(presets.vae, tmp_path, seeds=2, parallel="pmap", **TINY)
    with pytest.raises(InputError, match="--fsdp 1"):
        study(presets.vae, tmp_path, seeds=2, fsdp=2, **TINY)
