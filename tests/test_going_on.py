"""Going on: runs with more epochs than they had, and from another's parameters."""

import dataclasses
import json
import logging
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaejax import InputError, evaluate, load, parallel, presets, report, study, train
from vaejax.experiment import variables_of
from vaejax.runtime.jsonlines import read_rows
from vaejax.sharing.privacy import public_record
from vaejax.training.advance import training_key
from vaejax.training.card import NAME as CARD
from vaejax.training.facts import Evaluation, is_outdated
from vaejax.training.init_from import InitFrom, init_source
from vaejax.training.introduction import introduction
from vaejax.training.loop import first_state, training_feed
from vaejax.training.step import train_step

EPOCH = 2  # steps
TINY = {
    "dataset": "digits",
    "hidden": (4,),
    "latents": 2,
    "batch_size": 719,
    "likelihood": "gaussian_optimal",  # which has statistics
    "ema": 0.9,
    "schedule": "linear",
    "warm_up": 3.0,
    "decay": "constant",
    "evaluate_every": 1,
    "checkpoint_every": 1,
}
QUIET = {"quiet": True, "devices": 1, "trackers": ("none",)}


def tiny(**settings):
    return presets.vae(**TINY | settings)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two epochs in one go."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(tiny(epochs=2), folder, **QUIET)
    return folder


@pytest.fixture(scope="module")
def prolonged(tmp_path_factory):
    """One epoch, and then another one."""
    folder = tmp_path_factory.mktemp("prolonged") / "run"
    train(tiny(epochs=1), folder, **QUIET)
    train(tiny(epochs=2), folder, **QUIET)
    return folder


def config_in(folder):
    return json.loads((folder / "config.json").read_text())


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def differs(one, other):
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return any(not np.array_equal(a, b) for a, b in leaves)


def test_a_prolonged_run_is_the_longer_run_where_no_schedule_depends_on_it(
    whole, prolonged
):
    """Parameters, optimizers, statistics, averages, log and configuration."""
    assert_equal(load(prolonged)[1], load(whole)[1])
    for name in ("metrics.jsonl", "config.json"):
        assert (prolonged / name).read_bytes() == (whole / name).read_bytes()


def test_a_prolonged_run_says_where_it_went_on(prolonged):
    rows = read_rows(prolonged / "environment.jsonl")
    assert [(row["step"], row["epochs"]) for row in rows] == [(0, 1), (EPOCH, 2)]
    card = json.loads((prolonged / CARD).read_text())
    assert [start["epochs"] for start in card["starts"]] == [1, 2]
    assert card["training"]["step"] == card["training"]["steps"] == 2 * EPOCH


def test_after_it_is_prolonged_cosine_is_that_of_the_new_length(tmp_path):
    """The next step is the longer experiment's, and the past stays as it was."""
    short, long = (tiny(decay="cosine", epochs=n, log_every=1) for n in (1, 2))
    before = train(short, tmp_path, **QUIET)
    mesh = parallel.make_mesh(1, 719)
    feed, root = training_feed(long, mesh), training_key(0)
    one_step, state = jax.jit(partial(train_step, long)), before
    for step in range(EPOCH, 2 * EPOCH):
        raw = feed.select(feed.resident, feed.take(step, step + 1)[0])
        state, _ = one_step(root, state, jax.tree.map(jnp.asarray, raw))
    after = train(long, tmp_path, **QUIET)
    assert int(after.step) == 2 * EPOCH
    # Compiled as one step or as two: float32 rounds at another place.
    close = {"rtol": 1e-4, "atol": 1e-6}
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, **close),
        after.params,
        state.params,
    )
    assert differs(after.params, train(long, **QUIET).params)


def test_fewer_epochs_than_a_run_has_trained_are_refused(prolonged):
    before = (prolonged / "config.json").read_bytes()
    said = r"--epochs 1 are fewer than .* has trained \(4 steps, 2 epochs\): give more"
    with pytest.raises(InputError, match=said):
        train(tiny(epochs=1), prolonged, **QUIET)
    assert (prolonged / "config.json").read_bytes() == before
    with pytest.raises(InputError, match=r"configuration: ema 0\.9.*; epochs 2 \(here"):
        train(tiny(epochs=3, ema=0.5), prolonged, **QUIET)


def test_an_unfinished_run_takes_fewer_epochs_than_it_was_to_have(tmp_path, whole):
    planned = tiny(epochs=5)
    cut = dataclasses.replace(planned.training, epochs=1)
    train(dataclasses.replace(planned, training=cut), tmp_path, **QUIET)
    state = train(tiny(epochs=2), tmp_path, **QUIET)
    assert config_in(tmp_path)["arguments"]["epochs"] == 2
    assert_equal(state, load(whole)[1])


def test_patience_and_the_best_state_carry_on(tmp_path):
    """Where nothing moves, the first evaluation stays the best."""
    still = {"learning_rate": 1e-30, "ema": 0.0, "likelihood": "bernoulli"}
    still |= {
        "validation": 0.5,
        "batch_size": 359,
        "patience": 3,
        "schedule": "constant",
    }
    for epochs, steps in ((2, 4), (6, 8), (9, 8)):
        experiment = tiny(epochs=epochs, **still)
        state = train(experiment, tmp_path, **QUIET)
        assert read_rows(tmp_path / "metrics.jsonl")[-1]["step"] == steps
        assert int(state.step) == EPOCH
    lines = introduction(experiment, tmp_path, 8, state, parallel.make_mesh(1, 1))
    assert lines[-1] == "resuming at step 8"
    given = experiment, tmp_path, 8, state, parallel.make_mesh(1, 1)
    assert introduction(*given, exhausted=True)[-1].startswith("stopped early already")


def test_an_evaluation_of_a_state_that_training_left_is_none_of_the_run():
    def of(step, final):
        return Evaluation("test", step, 10, 0, final, ())

    rows = [{"step": n} for n in (0, 10, 20)]
    begun, went_on = [{"step": 0}], [{"step": 0}, {"step": 10}]
    assert is_outdated(of(10, True), of(20, False), went_on, rows)
    assert not is_outdated(of(10, True), of(20, False), begun, rows)  # from a kill
    assert not is_outdated(of(20, True), of(20, False), went_on, rows)
    assert not is_outdated(of(10, True), of(10, False), went_on, rows)  # still the best


@pytest.mark.slow
def test_a_study_is_prolonged(tmp_path):
    small = {n: v for n, v in TINY.items() if n != "likelihood"}
    for folder, lengths in (("whole", (2,)), ("prolonged", (1, 2))):
        for epochs in lengths:
            given = {**small, "epochs": epochs, "trackers": ("none",)}
            study(
                presets.vae, tmp_path / folder, seeds=2, devices=1, quiet=True, **given
            )
    for seed in (0, 1):
        runs = [tmp_path / each / f"seed={seed}" for each in ("whole", "prolonged")]
        assert_equal(*(load(run)[1] for run in runs))


# From another's parameters.


@pytest.fixture(scope="module")
def fresh():
    """A new state of another seed than the source's."""
    experiment = tiny(epochs=1, seed=7)
    return experiment, first_state(experiment, parallel.make_mesh(1, 719))


def test_from_a_whole_run_an_evaluation_is_that_of_the_run(whole, fresh):
    _, state = fresh
    begun = InitFrom(whole, ()).replaced(state)
    source = load(whole)
    assert_equal(variables_of(begun), variables_of(source[1]))
    assert_equal(begun.params, begun.ema)
    assert_equal(begun.opt_state, state.opt_state)
    assert int(begun.step) == 0
    again = tiny(epochs=1)  # of the source's seed, which the draws of evaluation have
    found, wanted = evaluate(again, begun, samples=2), evaluate(*source, samples=2)
    assert found == wanted
    assert found != evaluate(again, state, samples=2)


def test_parts_that_are_not_named_are_those_of_the_seed(whole, fresh):
    _, state = fresh
    begun, source = InitFrom(whole, ("decoder",)).replaced(state), load(whole)[1]
    for own, theirs, new in (
        (begun.params, source.ema, state.params),
        (begun.ema, source.ema, state.ema),
        (begun.stats["batch_stats"], source.stats["batch_stats"], {}),
    ):
        assert_equal(own["decoder"], theirs["decoder"])
        assert differs(own["decoder"], state.params["decoder"]) or not new
        assert_equal({n: own[n] for n in own if n != "decoder"}, without(new))


def without(parts):
    return {name: tree for name, tree in parts.items() if name != "decoder"}


def test_a_run_that_has_a_checkpoint_does_not_need_its_source(
    whole, tmp_path, caplog, capsys
):
    source, folder = tmp_path / "source", tmp_path / "run"
    shutil.copytree(whole, source)
    experiment = tiny(epochs=1, seed=7)
    train(experiment, folder, **QUIET | {"quiet": False}, init_from=source)
    line = next(x for x in capsys.readouterr().err.splitlines() if "starts from" in x)
    digest = config_in(folder)["init"]["digest"]
    assert line == f"starts from {source} (step 4, digest {digest}): decoder, encoder"
    assert (folder / "checkpoints" / "0").is_dir()
    first = read_rows(folder / "environment.jsonl")[0]
    assert (first["init_from"], first["init_step"]) == (str(source), 2 * EPOCH)
    assert json.loads((folder / CARD).read_text())["starts"][0]["init_digest"] == digest

    shutil.rmtree(source)
    train(tiny(epochs=2, seed=7), folder, **QUIET, init_from=source)
    other = tmp_path / "moved"
    shutil.copytree(whole, other)  # the same under another name
    train(tiny(epochs=2, seed=7), folder, **QUIET, init_from=other)
    with pytest.raises(InputError, match=r"init_from .*source \(here none\)"):
        train(tiny(epochs=2, seed=7), folder, **QUIET)
    with pytest.raises(InputError, match=r"init_parts all \(here encoder\)"):
        given = {"init_from": source, "init_parts": ("encoder",)}
        train(tiny(epochs=2, seed=7), folder, **QUIET, **given)
    with pytest.raises(InputError, match=r"init_from none \(here "):
        train(tiny(epochs=2), whole, **QUIET, init_from=other)

    # Killed before its first checkpoint, with another run in its source's place.
    shutil.rmtree(folder / "checkpoints")
    train(tiny(epochs=1, seed=3), source, **QUIET)
    with pytest.raises(InputError, match="is not what this run started from"):
        train(tiny(epochs=2, seed=7), folder, **QUIET, init_from=source)
    shutil.rmtree(source)
    shutil.copytree(whole, source)
    with caplog.at_level(logging.WARNING):  # rows move aside
        train(tiny(epochs=2, seed=7), folder, **QUIET, init_from=source)
    assert len(read_rows(folder / "metrics.jsonl")) == 4


@pytest.mark.parametrize(
    ("settings", "parts", "said"),
    [
        (
            {"hidden": (6,)},
            ("decoder",),
            r"Dense_0/kernel is float32\[4, 64\] in .*run and float32\[6, 64\] here",
        ),
        ({"hidden": (4, 4)}, (), r"it lacks decoder/body/mlp/Dense_1/bias, dec"),
        ({"prior": "mixture"}, (), r"other parts than the new run: it lacks prior; "),
        ({}, ("critic",), "--init-parts critic: .* has decoder, encoder, and the new"),
    ],
)
def test_what_does_not_fit_is_named(whole, settings, parts, said):
    experiment = tiny(**settings)
    shapes = parallel.state_shapes(experiment)
    with pytest.raises(InputError, match=said):
        InitFrom(whole, parts).taken(shapes)


def test_settings_of_a_start_that_cannot_be_meant():
    with pytest.raises(InputError, match="--init-parts are of --init-from"):
        init_source(None, ("encoder",))
    with pytest.raises(InputError, match=r"give \('encoder',\)"):
        init_source("runs/a", "encoder")
    with pytest.raises(InputError, match="name each part once"):
        init_source("runs/a", ("encoder", "encoder"))
    assert init_source(None, ()) is None


def test_a_damaged_record_of_the_source_is_said(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    config = config_in(whole) | {"init": {"source": 3}}
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"config\.json is damaged"):
        load(tmp_path / "run")


@pytest.mark.slow
def test_the_page_says_where_a_run_started_after_it_went_on(whole, tmp_path):
    for epochs in (1, 2):
        train(tiny(epochs=epochs), tmp_path / "run", **QUIET, init_from=whole)
    text = report(tmp_path / "run").read_text()
    for noted, first, then in (("epochs", 1, 2), ("init_from", whole, "")):
        row = f'<th scope="row">{noted}</th><td>{first}</td><td>{then}</td>'
        assert row in text


def test_a_shared_card_does_not_tell_where_the_source_lay():
    def told(source):
        card = {"starts": [{"step": 0, "init_from": source}, {"step": 4}]}
        return public_record(card, ())["starts"][0]["init_from"]

    assert told("/home/ann/runs/a") == "a"
    assert told("runs/a") == "runs/a"
    assert told("hf://owner/name") == "hf://owner/name"
