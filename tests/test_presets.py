"""The contract that every preset keeps, on simulated devices."""

import dataclasses
import json
from functools import partial

import flax.linen as nn
import jax
import numpy as np
import pytest

import vaejax
from vaejax import parallel
from vaejax.apply.capabilities import latent_shape, weighs
from vaejax.data.feed import resident_feed
from vaejax.errors import InputError
from vaejax.metrics.quantities import meaning_of, quantities_of
from vaejax.models import Label, VampPrior, conditions_of
from vaejax.presets import PRESETS, larsen
from vaejax.presets.signature import tiny_settings
from vaejax.training.checkpoint import Checkpoints
from vaejax.training.config import config_of
from vaejax.training.evaluator import conditions_to_generate, held_out_examples
from vaejax.training.loop import first_state
from vaejax.training.workdir import claim, recorded_experiment, write_json

from .latents import DATA


@pytest.fixture(scope="module", autouse=True)
def narrow():
    """Published widths are no settings, and too wide for tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(larsen, "WIDTHS", larsen.Widths((4, 4, 4), 16, (4, 4, 4), 16))
        yield


def tiny(name, **settings):
    common = {"dataset": "digits", "batch_size": 8, "epochs": 1, "ema": 0.9}
    # In bf16 the devices' gradients differ by their rounding.
    common["precision"] = "f32"
    common |= {"dataset": DATA[name]()} if name in DATA else {}
    return PRESETS[name](**common | tiny_settings(PRESETS[name]) | settings)


def game(experiment, devices, begun=lambda: None, start=None):
    """A first state (or `start`), and a function that moves it two steps; calls `begun`
    between.
    """
    mesh = parallel.make_mesh(devices, experiment.training.batch_size)
    feed = resident_feed(experiment.dataset.split("train"), 8, seed=0)
    resident = parallel.place(feed.resident, mesh)
    state = first_state(experiment, mesh) if start is None else start
    state, root = parallel.place(state, mesh), jax.random.key(3)
    begun()
    made = parallel.compile_steps(experiment, feed, mesh, state, resident)

    def move(state, step=0):
        return made.advance(state, resident, feed.take(step, step + 2), root)

    return state, move


def host(tree):
    return jax.tree.map(np.array, tree)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, host(a), host(b))


@pytest.fixture(scope="module", params=PRESETS)
def played(request):
    """A preset's state before and after two steps on one device, and its traces."""
    experiment = tiny(request.param)
    traces = []

    def counted(name, player):
        def objective(*args, **hyper):
            traces.append(name)
            return player.objective(*args, **hyper)

        return player._replace(objective=objective)

    players = {n: counted(n, p) for n, p in experiment.players.items()}
    experiment = dataclasses.replace(experiment, players=players)
    state, move = game(experiment, devices=1, begun=traces.clear)
    before = host(state)
    state, metrics, finite = move(state)
    after, history = host(state), host(metrics)
    state, _, _ = move(state, step=2)
    return experiment, before, after, history, bool(finite), traces, host(state), move


def modules_below(module):
    """Every module in the fields of a module, itself included."""
    found = [module]
    for field in dataclasses.fields(module):
        value = getattr(module, field.name)
        if field.name not in ("parent", "name") and isinstance(value, nn.Module):
            found += modules_below(value)
    return found


@pytest.mark.parametrize("name", PRESETS)
def test_parts_share_no_weights(name):
    """An instance in two parts has one set of weights, which the first part owns.

    A `Label` has none and is an exception; a VampPrior is made of the encoder, and has
    no weights but its own inputs.
    """
    model = tiny(name).model
    parts = [v for v in vars(model).values() if isinstance(v, nn.Module)]
    parts = [part for part in parts if not isinstance(part, VampPrior)]
    owners = {}
    for part in parts:
        for module in modules_below(part):
            if not isinstance(module, Label):
                assert owners.setdefault(id(module), part) is part, type(module)


def test_two_steps_are_finite_and_their_terms_described(played):
    experiment, _, after, history, finite, *_ = played
    assert finite
    assert after.step == 2
    known = quantities_of(experiment)
    for name, values in history.items():
        assert meaning_of(known, name.rpartition("/")[2]), name
        assert values.shape == (2,), name
        assert np.isfinite(values).all(), name


def test_the_step_is_traced_once(played):
    experiment, *_, traces, _, _ = played
    assert sorted(traces) == sorted(experiment.players)


def test_owned_parts_move_and_each_part_has_an_owner(played):
    experiment, before, after, *_ = played
    owned = {part for p in experiment.players.values() for part in p.owns}
    assert set(before.params) <= owned
    for part, params in before.params.items():
        moved = [
            not np.array_equal(a, b)
            for a, b in zip(
                jax.tree.leaves(params),
                jax.tree.leaves(after.params[part]),
                strict=True,
            )
        ]
        assert any(moved), part


def test_the_average_lags_behind(played):
    _, before, after, *_ = played
    start, now, average = (
        np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(t)])
        for t in (before.params, after.params, after.ema)
    )
    assert not np.array_equal(average, now)
    assert not np.array_equal(average, start)


def test_a_restored_state_takes_the_same_next_steps(played, tmp_path):
    experiment, _, after, _, _, _, further, move = played
    mesh = parallel.make_mesh(1, 8)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(2, parallel.place(after, mesh))
    restored = checkpoints.restore(parallel.abstract_state(experiment, mesh))
    checkpoints.close()
    assert_equal(restored, after)
    state, _, _ = move(restored, step=2)
    assert_equal(state, further)


# Presets whose z given x, or x given z, is a point mass, or that lack one of them.
NO_DENSITY = ("autoencoder", "gan", "gan_conv", "wgan_gp", "vaegan", "vaegan_paper")
NO_DENSITY += ("vaegan_authors_code", "cvaegan", "aae", "ali", "classifier")
NO_DENSITY += ("latent_flow", "rae", "wae")
NOT_INFERRED = ("gan", "gan_conv", "wgan_gp", "latent_flow", "classifier")
# Presets whose x is drawn and weighed without latents.
NO_LATENTS = ("code_transformer",)
KEY = jax.random.key(5)


def latents_of(experiment, state):
    """The shape of an example's latents, where there are any."""
    if experiment.name in ("classifier", *NO_LATENTS):
        return (2,)
    return latent_shape(experiment, state)


def queries_of(experiment, state, x, given):
    """Every query of a preset as a function of nothing, whose arrays are finite."""
    run, rows = (experiment, state), len(x)
    z = np.zeros((rows, *latents_of(experiment, state)))
    return {
        "encode": lambda: vaejax.encode(*run, x, given).mean,
        "reconstruct": lambda: vaejax.reconstruct(*run, x, given),
        "attribute": lambda: vaejax.attribute(*run, x, np.arange(rows) % 2, given),
        "log_likelihood": lambda: vaejax.log_likelihood(*run, x, KEY, 2, given),
        "sample": lambda: vaejax.sample(*run, KEY, rows, given=given),
        "decode": lambda: vaejax.decode(*run, z, given),
    }


def test_queries_with_and_without_conditions(played):
    """With what a model is conditioned on, they answer; without it, they answer the
    same where it follows from x or is nothing, and else ask for it in one line.
    """
    experiment, _, state, *_ = played
    name, rows = experiment.name, 8
    batch = held_out_examples(experiment, rows)
    x, own = batch["x"], {n: batch[n] for n in ("mask",) if n in batch}
    wanted = dict(conditions_to_generate(experiment, rows))
    asks = queries_of(experiment, state, x, {**wanted, **own})
    bare = queries_of(experiment, state, x, own)
    lacking = set(asks) if name == "classifier" else set()
    of_x = {"encode", "reconstruct", "attribute"}
    lacking |= of_x if name in NOT_INFERRED else set()
    lacking |= {"log_likelihood"} if name in NO_DENSITY else set()
    lacking |= of_x | {"decode"} if name in NO_LATENTS else set()
    labelled = "y" in conditions_of(experiment.model)
    z_size = latents_of(experiment, state)[0]
    for query, ask in asks.items():
        if query in lacking:
            for each in (ask, bare[query]):
                with pytest.raises(InputError):
                    each()
            continue
        answer = np.asarray(ask())
        assert answer.shape[0] == (z_size if query == "attribute" else rows)
        assert np.isfinite(answer).all(), query
        generates = query in ("sample", "decode")
        asked = (labelled and query != "sample") or (name == "cvae_sohn" and generates)
        if asked:
            with pytest.raises(InputError, match=r"conditioned on .*: pass given="):
                bare[query]()
        else:
            np.testing.assert_array_equal(bare[query](), answer, err_msg=query)
    assert weighs(experiment, state) == (name not in NO_DENSITY)


# Of presets with two conditions, by the one that is given: the queries it suffices for.
OF_X = {"encode", "reconstruct", "attribute", "log_likelihood"}
SUFFICES = {
    "cvae_sohn": {"context": OF_X | {"sample", "decode"}, "seen": OF_X},
    "vae_completion": {"context": set(), "seen": OF_X},
}


def test_queries_with_one_condition_of_two(played):
    """A model takes `seen` from its preset's region and a context from x and `seen`;
    where it can do neither, one line asks for the entry that is missing.
    """
    experiment, _, state, *_ = played
    wanted = dict(conditions_to_generate(experiment, 8))
    suffices = SUFFICES.get(experiment.name, {})
    assert suffices.keys() == (wanted.keys() if len(wanted) > 1 else set())
    x = held_out_examples(experiment, 8)["x"]
    both = queries_of(experiment, state, x, wanted)
    for condition, answered in suffices.items():
        (other,) = wanted.keys() - {condition}
        alone = queries_of(experiment, state, x, {condition: wanted[condition]})
        for query, ask in alone.items():
            if query in answered:
                np.testing.assert_array_equal(ask(), both[query]())
                continue
            with pytest.raises(InputError, match=f"conditioned on {other}: pass given"):
                ask()


def test_queries_impute_where_a_model_infers_without_labels(played):
    """Two draws of every third entry; else one line says why there are none."""
    experiment, _, state, *_ = played
    x = held_out_examples(experiment, 8)["x"]
    mask = np.arange(x.size).reshape(x.shape) % 3 > 0
    settings = {"multiple": 2, "samples": 2, "batch_size": 8}
    ask = partial(vaejax.impute, experiment, state, x, mask, KEY, **settings)
    labelled = "y" in conditions_of(experiment.model)
    if experiment.name in NO_DENSITY or labelled:
        says = "no posterior|point mass|needs labels"
        with pytest.raises(InputError, match=says) as caught:
            ask()
        assert "\n" not in str(caught.value)
        return
    filled = ask()
    for whole in (filled.single, *filled.draws):
        np.testing.assert_array_equal(whole[mask], x[mask])
        assert np.isfinite(whole).all()
    assert filled.draws.shape == (2, *x.shape)
    # Of two weights that sum to 1 the effective size is between 1 and 2; equal ones, as
    # of codes, have logarithms of up to 128 nats, which are rounded.
    eps = np.finfo(np.float32).eps
    assert ((filled.ess >= 1 - 4 * eps) & (filled.ess <= 2 + 128 * eps)).all()


def test_raw_inputs_are_units_and_wrong_ones_one_line(played):
    experiment, _, state, *_ = played
    batch = held_out_examples(experiment, 4)
    x, raw = batch["x"], experiment.preprocess.restore(batch["x"])
    np.testing.assert_allclose(experiment.inputs(raw)["x"], x, atol=1e-6)
    given = conditions_to_generate(experiment, 4)
    wrong = [
        (raw, given),
        (raw.astype(float), given),
        (x[0], given),
        (x.reshape(4, -1), given),
        (x[:0], {}),
        (x + np.inf, given),
        (x, given | {"labels": np.zeros(4)}),
        (x, given | {"y": np.zeros(3, int)}),
        (x, given | {"y": np.full(4, 10)}),
        (x, given | {"mask": x[:1]}),
    ]
    if experiment.name in DATA:
        del wrong[:2]  # codes are their own units
    run = (experiment, state)
    for bad, conditions in wrong:
        for ask, more in ((vaejax.encode, ()), (vaejax.log_likelihood, (KEY, 2))):
            with pytest.raises(InputError) as caught:
                ask(*run, bad, *more, given=conditions)
            assert "\n" not in str(caught.value)
    z = np.zeros((4, *latents_of(*run)))
    for _, conditions in wrong[-4:]:
        for ask in (
            partial(vaejax.sample, *run, KEY, 4),
            partial(vaejax.decode, *run, z),
        ):
            with pytest.raises(InputError) as caught:
                ask(given=conditions)
            assert "\n" not in str(caught.value)


def test_metrics_count_every_example_once(played):
    experiment, _, state, *_ = played
    values = vaejax.evaluate(experiment, state, samples=1, batch_size=100)
    assert values["examples"] == experiment.dataset.spec.sizes["test"] == 359
    assert all(np.isfinite(v) for v in values.values())
    assert np.isfinite(experiment.selection(values))
    known = quantities_of(experiment)
    assert all(meaning_of(known, n) for n in values if not n.endswith("_se"))
    if {"elbo", "nll"} <= values.keys():
        # One draw's log-weight has the ELBO as its mean, if both are of one event.
        error = np.hypot(values["elbo_se"], values["nll_se"])
        assert abs(values["elbo"] + values["nll"]) <= 5 * error


@pytest.mark.devices
@pytest.mark.parametrize("name", PRESETS)
def test_four_devices_compute_what_one_does(name):
    """Noise and statistics do not depend on the devices; sums differ by rounding.

    Adam divides by the root of the second moment, so a rounding error in a gradient
    that is nearly zero may turn a whole step: hence gradient descent here.
    """
    import optax

    experiment = tiny(name)
    players = {
        n: p._replace(optimizer=optax.sgd(1e-4)) for n, p in experiment.players.items()
    }
    experiment = dataclasses.replace(experiment, players=players)
    results, start = [], None
    for devices in (1, 4):
        # Compiled once: tests of the devices say that they start alike.
        state, move = game(experiment, devices, start=start)
        start = host(state)
        state, metrics, _ = move(state)
        assert len(jax.tree.leaves(state.params)[0].sharding.device_set) == devices
        results.append((host(state.params), host(metrics)))
    # Metrics may be small differences of terms near 1, each of some float32 roundings.
    for one, four, atol in zip(*results, (1e-6, 1e-5), strict=True):
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-5, atol=atol), one, four
        )


@pytest.mark.parametrize("name", PRESETS)
def test_a_recorded_configuration_gives_the_same_experiment(name, tmp_path):
    experiment = tiny(name)
    write_json(tmp_path / "config.json", config_of(experiment))
    again = recorded_experiment(tmp_path)
    assert again.name == name
    assert again.training == experiment.training
    assert again.model == experiment.model
    assert config_of(again) == json.loads((tmp_path / "config.json").read_text())


def test_a_run_older_than_a_setting_goes_on_with_its_default(tmp_path):
    config = config_of(tiny("vae"))
    del config["arguments"]["parallel"]
    write_json(tmp_path / "config.json", config)
    (tmp_path / "metrics.jsonl").touch()  # it has trained, so it is not replaced
    claim(tmp_path, tiny("vae"))
    with pytest.raises(InputError, match=r"parallel jit \(here pmap\)"):
        claim(tmp_path, tiny("vae", parallel="pmap"))
