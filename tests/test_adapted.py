"""Networks of NNX, of Equinox and of pure functions as bodies, against Linen's."""

import dataclasses
import itertools
import math
import os
import runpy
import signal
from functools import partial

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.extend.core import jaxprs_in_params

import vaejax
from tests.pages import blocks
from tests.test_parallel import assert_close, moved
from tests.test_train import assert_same_run
from vaejax import Experiment, InputError, objectives, parallel, presets
from vaejax.configs import Data, Latents, Training
from vaejax.data.feed import resident_feed
from vaejax.export.load import load as load_export
from vaejax.export.write import write_export
from vaejax.models.critic import CriticNetwork
from vaejax.nn import Adapted, Arrays, from_equinox, from_functions, from_nnx, networks
from vaejax.nn.adapted import by_structure, named_arrays
from vaejax.nn.layers import bodies_in
from vaejax.presets import assemble as a
from vaejax.presets.bodies import Bodies
from vaejax.presets.signature import preset
from vaejax.runtime.preemption import Stopped
from vaejax.training import step
from vaejax.training.loop import first_state
from vaejax.training.recorder import Recorder

KEY = jax.random.key(0)


def pairs(widths):
    return list(itertools.pairwise(widths))


def forward(layers, x, last):
    """Dense layers with tanh between them, and after the last where so asked."""
    for number, layer in enumerate(layers):
        x = layer(x)
        x = jnp.tanh(x) if last or number < len(layers) - 1 else x
    return x


class NNXDense(nnx.Module):
    def __init__(self, widths, last, *, rngs):
        self.last = last
        self.layers = nnx.List([nnx.Linear(*pair, rngs=rngs) for pair in pairs(widths)])

    def __call__(self, x):
        return forward(list(self.layers), x.reshape(x.shape[0], -1), self.last)


class EquinoxDense(eqx.Module):
    layers: list
    last: bool = eqx.field(static=True)

    def __init__(self, widths, last, *, key):
        keys = jax.random.split(key, len(widths) - 1)
        self.layers = [
            eqx.nn.Linear(*pair, key=own)
            for pair, own in zip(pairs(widths), keys, strict=True)
        ]
        self.last = last

    def __call__(self, x):
        return forward(self.layers, x.ravel(), self.last)


def functions(widths, last):
    """Their parameters are pairs in a list."""

    def init(key, x):
        assert math.prod(x.shape[1:]) == widths[0]
        return [
            (0.1 * jax.random.normal(key, pair), jnp.zeros(pair[1]))
            for pair in pairs(widths)
        ]

    def apply(params, x):
        layers = [partial(lambda w, b, x: x @ w + b[None], *pair) for pair in params]
        return forward(layers, x.reshape(len(x), -1), last)

    return init, apply


class NNXNoisy(nnx.Module):
    """With a norm and dropout between its layers."""

    def __init__(self, width, outputs, *, rngs):
        # A norm takes a bias away: its gradient would be nothing but rounding.
        self.inner = nnx.Linear(width, 8, use_bias=False, rngs=rngs)
        self.outer = nnx.Linear(8, outputs, rngs=rngs)
        self.norm = nnx.BatchNorm(8, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(0.25, rngs=rngs)

    def __call__(self, x):
        h = nnx.relu(self.norm(self.inner(x.reshape(x.shape[0], -1))))
        return self.outer(self.dropout(h))


def bodies(framework, pixels, latents):
    """The encoder pixels - 8, the decoder latents - 8 - pixels."""
    up, down = (pixels, 8), (latents, 8, pixels)
    if framework == "linen":
        one, other = (networks.MLP((8,), nn.tanh) for _ in range(2))
        return Bodies(
            networks.FlatEncoder(one), lambda s: networks.FlatDecoder(other, tuple(s))
        )
    if framework == "functions":
        return Bodies(
            from_functions(*functions(up, True)),
            lambda s: from_functions(*functions(down, False), shape=s),
        )
    if framework == "noisy":
        return Bodies(
            from_nnx(NNXNoisy, pixels, 8),
            lambda s: from_nnx(NNXNoisy, latents, pixels, shape=s),
        )
    make, kind = {"nnx": (from_nnx, NNXDense), "equinox": (from_equinox, EquinoxDense)}[
        framework
    ]
    return Bodies(make(kind, up, True), lambda s: make(kind, down, False, shape=s))


@preset
def dense_vae(
    *,
    data: Data = Data(dataset="digits"),
    framework: str = "noisy",
    latent: Latents = Latents(2),
    training: Training = Training(epochs=2, batch_size=200),
) -> Experiment:
    """A VAE of two dense networks."""
    view = a.open_data(data, a.li.Bernoulli())
    body = bodies(framework, math.prod(view.dataset.spec.shape), latent.latents)
    return a.vae_game(body, latent, view, training, objectives.elbo)


def translated(params, framework):
    """The parameters of the Linen networks as those of another framework's."""

    def written(number, dense):
        kernel, bias = dense["kernel"], dense["bias"]
        return {
            "nnx": {"kernel": kernel, "bias": bias},
            "equinox": {"weight": kernel.T, "bias": bias},
            "functions": {"0": kernel, "1": bias},
        }[framework]

    def network(body):
        inner = [body["mlp"]["Dense_0"], *(v for n, v in body.items() if n != "mlp")]
        layers = {str(n): written(n, dense) for n, dense in enumerate(inner)}
        return {"network": layers if framework == "functions" else {"layers": layers}}

    parts = {part: dict(params[part]) for part in params}
    for part in ("encoder", "decoder"):
        parts[part]["body"] = network(params[part]["body"])
    return parts


def steps_of(experiment, params=None):
    """The parameters at the start, and terms and parameters of three steps.

    By gradient descent: Adam makes a whole step of a rounding error.
    """
    player = experiment.players["vae"]._replace(optimizer=optax.sgd(0.05))
    experiment = dataclasses.replace(experiment, players={"vae": player})
    state = first_state(experiment, parallel.make_mesh(1, 1))
    state = state if params is None else state._replace(params=params)
    feed = resident_feed(experiment.dataset.split("train"), 32, seed=0)
    raw = feed.select(jax.device_put(feed.resident), jnp.arange(32))
    move, start, seen = jax.jit(partial(step.train_step, experiment)), state.params, []
    for _ in range(3):
        state, terms = move(KEY, state, raw)
        seen.append((terms, state.params))
    return start, seen


@pytest.fixture(scope="module")
def linen():
    return steps_of(dense_vae(framework="linen"))


@pytest.mark.parametrize("framework", ["nnx", "equinox", "functions"])
def test_a_network_is_the_same_in_every_framework(framework, linen):
    """Same weights: same ELBO, gradients (the first move) and parameters at last."""
    start, seen = linen
    begun = translated(start, framework)
    _, same = steps_of(dense_vae(framework=framework), begun)
    for (terms, params), (same_terms, same_params) in zip(seen, same, strict=True):
        assert_close(same_terms, terms)
        assert_close(same_params, translated(params, framework))
    moves = jax.tree.map(lambda old, new: bool((old != new).any()), begun, same[0][1])
    assert all(jax.tree.leaves(moves))


@pytest.fixture(scope="module", autouse=True)
def known():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets.PRESETS, "dense_vae", dense_vae)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of a network with a norm and dropout, with averaged parameters."""
    folder = tmp_path_factory.mktemp("run") / "finished"
    vaejax.train(dense_vae(ema=0.9), folder, quiet=True, devices=1)
    return folder


def test_a_run_is_stopped_and_goes_on_bit_for_bit(finished, tmp_path, monkeypatch):
    report, half = Recorder.report, dense_vae().epoch_steps

    def interrupted(self, at, *reported):
        report(self, at, *reported)
        if at == half:
            os.kill(os.getpid(), signal.SIGTERM)

    again = partial(vaejax.train, dense_vae(ema=0.9), tmp_path, quiet=True, devices=1)
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "report", interrupted)
        with pytest.raises(Stopped, match=f"step {half}"):
            again()
    again()
    assert_same_run(tmp_path, finished)
    experiment, state = vaejax.load(finished)
    norm = state.stats["batch_stats"]["encoder"]["body"]["network"]["norm"]
    assert (norm["mean"] != 0).all()
    assert vaejax.evaluate(experiment, state, samples=0)["elbo"] < 0


def test_an_export_computes_the_same(finished, tmp_path):
    experiment, state = vaejax.load(finished)
    write_export(experiment, state, tmp_path / "out", 2)
    exported = load_export(tmp_path / "out")
    x = np.random.default_rng(0).random((3, 8, 8, 1), np.float32)
    q = vaejax.encode(experiment, state, x)
    np.testing.assert_allclose(exported["encode"](x)["mean"], q.mean, rtol=1e-5)
    z = np.asarray(q.mean)
    np.testing.assert_allclose(
        exported["decode"](z), vaejax.decode(experiment, state, z), rtol=1e-5
    )


def test_a_replica_of_a_study_equals_its_single_run(tmp_path):
    """Also where weights are drawn within the program of all seeds."""
    settings = {"epochs": 1, "batch_size": 200}
    study = partial(vaejax.study, dense_vae, tmp_path, quiet=True, devices=1)
    replica = study(seeds=2, **settings)[1]
    _, state = vaejax.load(replica.folder)
    alone = vaejax.train(dense_vae(**settings, seed=1), quiet=True, devices=1)
    # As in test_study: Adam divides small gradients by their size.
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4),
        (state.params, state.stats),
        (alone.params, alone.stats),
    )


@pytest.mark.devices
def test_four_devices_compute_what_one_does():
    one, four = (moved(dense_vae(batch_size=16), devices) for devices in (1, 4))
    assert_close(four, one)


@pytest.mark.devices
def test_statistics_of_parts_of_a_batch_are_refused():
    with pytest.raises(InputError, match="--parallel jit"):
        moved(dense_vae(batch_size=16, parallel="shard_map"), 4)
    moved(dense_vae(batch_size=16, parallel="shard_map", framework="nnx"), 4)


def variables_of(body, *inputs):
    return body.init({"params": KEY}, *inputs)


def test_a_norm_is_of_the_batch_only_where_statistics_may_be_written():
    body, rng = from_nnx(NNXNoisy, 5, 4), np.random.default_rng(0)
    x = jnp.asarray(rng.normal(2, 3, (64, 5)), jnp.float32)
    variables = variables_of(body, x)
    network = variables["params"]["network"]

    def computed(mean, var):
        h = x @ network["inner"]["kernel"]
        h = jax.nn.relu((h - mean) / jnp.sqrt(var + 1e-5))
        return h @ network["outer"]["kernel"]

    h = x @ network["inner"]["kernel"]
    mean, var = h.mean(0)[None], h.var(0)[None]
    np.testing.assert_allclose(
        body.apply(variables, x), computed(0.0, 1.0), rtol=1e-4, atol=1e-5
    )
    y, after = body.apply(variables, x, mutable=["batch_stats"])
    np.testing.assert_allclose(y, computed(mean, var), rtol=1e-4, atol=1e-4)
    norm = after["batch_stats"]["network"]["norm"]
    np.testing.assert_allclose(norm["mean"], 0.1 * mean[0], rtol=1e-4)
    np.testing.assert_allclose(norm["var"], 0.9 + 0.1 * var[0], rtol=1e-4)


class EquinoxDropout(eqx.Module):
    dropout: eqx.nn.Dropout

    def __init__(self, *, key):
        del key
        self.dropout = eqx.nn.Dropout(0.25)

    def __call__(self, x, *, key=None):
        return self.dropout(x, key=key)


class NNXDropout(nnx.Module):
    def __init__(self, *, rngs):
        self.dropout = nnx.Dropout(0.25, rngs=rngs)

    def __call__(self, x):
        return self.dropout(x)


def dropping(params, x, *, key):
    del params
    return x if key is None else x * jax.random.bernoulli(key, 0.75, x.shape) / 0.75


DROPOUT = {
    "nnx": from_nnx(NNXDropout),
    "equinox": from_equinox(EquinoxDropout),
    "functions": from_functions(lambda key, x: (), dropping, draws=True),
}


@pytest.mark.parametrize("framework", DROPOUT)
def test_dropout_needs_a_key(framework):
    body, x = DROPOUT[framework], jnp.ones((50, 40))
    assert not jax.tree.leaves(variables_of(body, x))
    np.testing.assert_array_equal(body.apply({}, x), x)
    one, same, other = (
        body.apply({}, x, rngs={"dropout": jax.random.key(seed)}) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any() and (one[0] != one[1]).any()
    assert set(np.unique(one)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((one == 0).mean() - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 2000)


@pytest.mark.parametrize("framework", ["nnx", "equinox", "functions"])
def test_layers_compute_in_the_precision_of_the_run(framework):
    body, x = bodies(framework, 6, 2).encoder, jnp.ones((4, 6))
    variables = variables_of(body, x)
    with bodies_in(jnp.bfloat16):
        program = jax.make_jaxpr(body.apply)(variables, x)
        gradient = jax.grad(lambda v: body.apply(v, x).sum())(variables)
    (product,) = (
        e for e in equations(program.jaxpr) if "dot_general" in e.primitive.name
    )
    assert {v.aval.dtype for v in product.invars} == {jnp.dtype(jnp.bfloat16)}
    assert program.out_avals[0].dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {
        jnp.dtype(jnp.float32)
    }


def equations(jaxpr):
    """Those of a program and of the programs within it."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner)


def test_a_decoder_takes_any_axes_before_those_of_latents():
    body = bodies("nnx", 12, 2).decoder((2, 2, 3))
    z = jax.random.normal(KEY, (5, 4, 2))
    variables = variables_of(body, z)
    every = body.apply(variables, z)
    assert every.shape == (5, 4, 2, 2, 3)
    one = body.apply(variables, z[3, 2])
    np.testing.assert_allclose(every[3, 2], one, rtol=1e-5)


def test_a_condition_comes_after_x():
    body = from_functions(lambda key, x, c: (), lambda params, x, c: x + 10 * c)
    x, c = jnp.ones((3, 2)), jnp.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(body.apply({}, x, c), x + 10 * c)


def test_a_critic_reads_it_as_one_layer():
    critic = CriticNetwork(bodies("equinox", 6, 2).encoder)
    x = jnp.ones((4, 6))
    found, _ = critic.init_with_output(KEY, x, {"x": x})
    assert found.score.shape == (4,)
    assert [f.shape for f in found.features] == [(4, 6), (4, 8)]


def test_models_of_the_same_settings_are_equal():
    """Compiled functions are found by their model."""
    for framework in ("nnx", "equinox"):
        one, other = (dense_vae(framework=framework).model for _ in range(2))
        assert one == other and hash(one) == hash(other)
    assert dense_vae(latents=3, framework="nnx").model != one


def test_names_of_arrays_are_their_places():
    """Haiku's contain slashes, which in files are those of folders."""
    tree = {"mlp/~/linear_0": {"w": 1.0}, "mlp/~/linear_1": [jnp.ones(2), (3.0,)]}
    named = named_arrays(tree)
    assert named["mlp"]["~"]["linear_1"]["1"]["0"] == 3
    back = by_structure(named, tree)
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    jax.tree.map(np.testing.assert_array_equal, back, tree)
    np.testing.assert_array_equal(
        by_structure(named_arrays(jnp.ones(3)), jnp.ones(3)), np.ones(3)
    )
    for twice in ({"a/b": 1.0, "a": {"b": 2.0}}, {"a": 1.0, "a/b": 2.0}):
        with pytest.raises(InputError, match="names of their own"):
            named_arrays(twice)


class Restless(nnx.Module):
    """Draws in every pass, and holds what else it is given."""

    def __init__(self, other=None, *, rngs):
        self.rngs = rngs
        self.other = None if other is None else other(jnp.zeros(2))

    def __call__(self, x):
        return x + jax.random.normal(self.rngs.noise()) if self.other is None else x


class WithBuffer(eqx.Module):
    index: jax.Array

    def __init__(self, *, key):
        self.index = jnp.arange(3)


def equinox_norm(*, key):
    return eqx.nn.BatchNorm(4, "batch", mode="ema")


REFUSED = {
    "draws": (from_nnx(Restless), "Restless draws random numbers"),
    "kind": (from_nnx(Restless, nnx.Cache), "holds Cache at other"),
    "state": (from_equinox(equinox_norm), "keeps a state"),
    "integers": (from_equinox(WithBuffer), r"index is int32\[3\]"),
    "tuple": (from_functions(lambda key, x: (), lambda p, x: (x, x)), "gives tuple"),
    "features": (from_functions(lambda key, x: (), lambda p, x: x[0]), r"gives \(4,\)"),
    "channels": (
        from_functions(
            lambda key, x: (),
            lambda p, z: jnp.zeros((len(z), 3, 8, 8)),
            shape=(8, 8, 3),
        ),
        r"gives \(2, 3, 8, 8\) for 2 latents: \[2, 8, 8, 3\]",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_place_in_a_run_is_refused_in_a_line(case):
    body, words = REFUSED[case]
    with pytest.raises(InputError, match=words) as caught:
        variables_of(body, jnp.ones((2, 4)))
    assert "\n" not in str(caught.value)


def test_makers_are_asked_for_and_hashable_arguments():
    with pytest.raises(InputError, match="give its class"):
        from_nnx(NNXDense((2, 3), True, rngs=nnx.Rngs(0)))
    with pytest.raises(InputError, match="give its class"):
        from_equinox(EquinoxDense((2, 3), True, key=KEY))
    with pytest.raises(InputError, match=r"unhashable type: 'list'.*as tuples are"):
        from_nnx(NNXDense, [2, 3], True)


@dataclasses.dataclass(frozen=True)
class Running:
    """A network by its own rules: less the mean of all batches so far."""

    def init(self, key, *inputs):
        return Arrays((), jnp.zeros(2))

    def apply(self, arrays, *inputs, key, update):
        seen = arrays.stats + jnp.stack([inputs[0].mean(), jnp.ones(())])
        used = seen if update else arrays.stats
        return inputs[0] - used[0] / jnp.maximum(used[1], 1), seen


def test_any_network_with_statistics_can_be_written():
    body, variables = Adapted(Running()), {}
    variables = variables_of(body, jnp.ones((2, 2)))
    for value in (1.0, 2.0, 6.0):
        y, variables = body.apply(
            variables, jnp.full((2, 2), value), mutable=["batch_stats"]
        )
    assert (y == 3).all()
    assert (body.apply(variables, jnp.full((2, 2), 4.0)) == 1).all()


@pytest.mark.slow
def test_the_page_makes_a_command_line_with_one_preset_more(
    tmp_path, monkeypatch, capsys
):
    """The blocks of the page that stand in a file of their own, and its commands."""
    page = blocks("docs/howto/networks.md")
    python = [block.text for block in page if block.language == "python"]
    (commands,) = (block.commands for block in page if block.language == "bash")
    ours = [text for text in python if "PRESETS[" in text or "def __init__(" in text]
    ending = next(text for text in python if "__main__" in text)
    (tmp_path / "mine.py").write_text("\n".join([*ours[:2], ending]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(presets.PRESETS, "my_vae", None)  # to be gone afterwards
    monkeypatch.setattr("vaejax.cli.commands.try_report", lambda *run: None)
    few = {"train": ["--devices", "1"], "evaluate": ["--samples", "2"], "export": []}
    for command in commands:
        words = command.split()[1:]
        monkeypatch.setattr("sys.argv", words + few[words[1]])
        runpy.run_path("mine.py", run_name="__main__")
    assert "negative ELBO" in capsys.readouterr().out
    assert {"encode", "decode"} <= set(load_export(tmp_path / "exported"))
