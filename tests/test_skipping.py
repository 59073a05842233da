"""Steps whose gradient is too large are skipped, counted and survived."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vaejax
from vaejax.errors import InputError
from vaejax.training.run import Diverged
from vaejax.training.skipping import means_of, skipped_steps

BAD = {3: 1e6, 7: np.nan}
"""Factors of the loss in two steps."""
STEPS = 22


def broken(experiment):
    """The experiment with a huge gradient in one step, and none in another."""
    (player,) = experiment.players.values()

    def objective(model, batch, key, *, blow, **hyper):
        loss, terms = player.objective(model, batch, key, **hyper)
        return loss * blow, terms | {"loss": loss * blow}

    def blow(step):
        step = jnp.asarray(step)
        return jnp.select([step == n for n in BAD], list(BAD.values()), 1.0)

    schedules = {**player.schedules, "blow": blow}
    bad = player._replace(objective=objective, schedules=schedules)
    return dataclasses.replace(experiment, players={"vae": bad})


def experiment_of(**settings):
    common = {"dataset": "digits", "hidden": (8,), "latents": 2, "epochs": 1}
    common |= {"batch_size": 64, "decay": "constant", "evaluate_every": 9}
    return vaejax.presets.vae(**common | settings)


def rows_of(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [r for r in map(json.loads, lines) if r["split"] == "train"]


@pytest.fixture(scope="module")
def skipped_run(tmp_path_factory):
    """A run with two bad gradients, a line of the log for each step."""
    folder = tmp_path_factory.mktemp("skipped") / "run"
    experiment = broken(experiment_of(skip=1e5, log_every=1))
    return vaejax.train(experiment, folder, quiet=True), rows_of(folder)


def test_bad_steps_are_counted_exactly(skipped_run):
    state, rows = skipped_run
    assert len(rows) == state.step == STEPS
    assert [r["step"] - 1 for r in rows if r["vae/skipped"]] == list(BAD)


def test_terms_of_skipped_steps_that_are_not_finite_stay_out_of_the_log(skipped_run):
    for row in skipped_run[1]:
        assert all(np.isfinite(v) for v in row.values() if isinstance(v, float))
        assert "vae/gradient_norm" in row or row["vae/skipped"]


def test_the_optimizer_counts_no_skipped_step(skipped_run):
    counts = [
        leaf
        for leaf in jax.tree.leaves(skipped_run[0].opt_state)
        if jnp.issubdtype(leaf.dtype, jnp.integer)
    ]
    assert counts
    for leaf in counts:
        assert leaf == STEPS - len(BAD)


def test_no_step_is_skipped_below_the_limit_and_the_run_is_the_same():
    plain = vaejax.train(experiment_of(), quiet=True)
    limited = vaejax.train(experiment_of(skip=1e9), quiet=True)
    jax.tree.map(np.testing.assert_array_equal, plain.params, limited.params)


def test_a_run_that_skips_every_step_ends():
    with pytest.raises(Diverged, match="every step was skipped: raise --skip"):
        vaejax.train(experiment_of(skip=1e-6), quiet=True)


def test_a_limit_below_zero_is_refused():
    with pytest.raises(InputError, match="--skip is -1"):
        experiment_of(skip=-1.0)


def test_means_leave_out_what_was_skipped_and_is_not_finite():
    history = {
        "vae/loss": np.array([1.0, np.inf, 3.0]),
        "vae/skipped": np.array([0.0, 1.0, 0.0]),
    }
    assert skipped_steps(history).tolist() == [False, True, False]
    assert means_of(history) == {"vae/loss": 2.0, "vae/skipped": pytest.approx(1 / 3)}
    unskipped = history | {"vae/skipped": np.zeros(3)}
    assert means_of(unskipped)["vae/loss"] == np.inf
