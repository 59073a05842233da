"""Calls of steps: short enough for a signal, and as few as can be."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import test_train
from tests.test_train import assert_same_run
from vaejax import InputError, parallel, presets, train
from vaejax.data.feed import resident_feed
from vaejax.parallel.work import LEAST, operations, slow_guess
from vaejax.runtime.preemption import Stopped
from vaejax.training import pace, parts
from vaejax.training.advance import Stepper
from vaejax.training.loop import first_state
from vaejax.training.pace import LIMIT, Pace

TINY = test_train.TINY | {"epochs": 2, "checkpoint_every": 12}


def tiny(**settings):
    return presets.vae(**TINY | settings)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("run") / "finished"
    train(tiny(), folder, quiet=True, devices=1)
    return folder


@pytest.fixture
def calls(monkeypatch):
    """The lengths of calls, as they are made."""
    seen = []
    plain = Stepper._call

    def noted(self, calls, count, xs):
        seen.append(count)
        plain(self, calls, count, xs)

    monkeypatch.setattr(Stepper, "_call", noted)
    return seen


def stop_after(number, calls, patch):
    """Sends SIGTERM while a call of that number runs, the first is 1."""
    plain = Stepper._call

    def stopping(self, *given):
        plain(self, *given)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGTERM)

    patch.setattr(Stepper, "_call", stopping)


def test_an_ordinary_run_takes_one_call_an_interval(calls):
    train(tiny(log_every=0, epochs=3), quiet=True, devices=1)
    assert calls == [14, 14, 14]


@pytest.mark.parametrize("moments", [(6,), (6, 1), (7, 10, 2), (1,), (8,)], ids=str)
def test_slow_steps_stop_inside_an_interval_and_go_on_bit_for_bit(
    finished, tmp_path, monkeypatch, calls, moments
):
    monkeypatch.setattr(pace, "LIMIT", 1e-9)  # every step is slow
    step = 0
    for moment in moments:
        calls.clear()
        step += moment
        with monkeypatch.context() as patch:
            stop_after(moment, calls, patch)
            with pytest.raises(Stopped, match=f"step {step}, saved in .*goes on"):
                train(tiny(), tmp_path / "run", quiet=True, devices=1)
        assert calls == [1] * moment
    train(tiny(), tmp_path / "run", quiet=True, devices=1)
    assert_same_run(tmp_path / "run", finished)


def test_events_inside_a_cut_interval_wait_for_its_end(tmp_path, monkeypatch, calls):
    monkeypatch.setattr(pace, "LIMIT", 1e-9)
    settings = {"log_every": 10}  # an evaluation is due at step 14
    with monkeypatch.context() as patch:
        stop_after(16, calls, patch)
        with pytest.raises(Stopped, match="step 16"):
            train(tiny(**settings), tmp_path / "cut", quiet=True, devices=1)
    train(tiny(**settings), tmp_path / "cut", quiet=True, devices=1)
    train(tiny(**settings), tmp_path / "whole", quiet=True, devices=1)
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


def test_a_part_of_an_interval_is_of_its_step_or_of_nothing(tmp_path):
    assert parts.read_part(tmp_path, 6) is None
    terms = {"vae/loss": np.array([0.1, 1 / 3], np.float32)}
    parts.write_part(tmp_path, parts.Part(4, 6, terms))
    found = parts.read_part(tmp_path, 6)
    assert found is not None
    assert found.start == 4
    assert found.terms["vae/loss"].tobytes() == terms["vae/loss"].tobytes()
    assert parts.read_part(tmp_path, 7) is None
    (tmp_path / parts.NAME).write_text("{")
    with pytest.raises(InputError, match=r"interval\.json is damaged: remove it"):
        parts.read_part(tmp_path, 6)


def test_calls_grow_and_shrink_by_what_they_took():
    made = Pace(1.0)
    assert made.size == 2
    made.took(2, 0.002)  # much less than the limit: by 8 at most
    assert made.size == 16
    made.took(3, 0.003)  # the rest of an interval says nothing
    assert made.size == 16
    made.took(16, LIMIT / 2)  # as it should be
    assert made.size == 16
    assert not made.slow
    made.took(16, 16.0)  # a second each
    assert made.size == 1
    assert made.slow  # none waits behind it


def test_a_step_is_guessed_by_its_products_and_convolutions():
    a, b = jnp.ones((3, 4)), jnp.ones((4, 5))
    product = jax.jit(jnp.matmul).trace(a, b).jaxpr
    assert operations(product) == 2 * 3 * 4 * 5

    def repeated(a):
        return jax.lax.scan(lambda c, _: (c @ jnp.ones((4, 4)), None), a, length=7)[0]

    assert operations(jax.make_jaxpr(repeated)(a)) == 7 * 2 * 3 * 4 * 4
    image, kernel = jnp.ones((2, 8, 8, 3)), jnp.ones((5, 5, 3, 6))
    layout = ("NHWC", "HWIO", "NHWC")

    def convolved(x, k):
        return jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", None, None, layout)

    found = operations(jax.make_jaxpr(convolved)(image, kernel))
    assert found == 2 * (2 * 8 * 8 * 6) * (5 * 5 * 3)
    assert slow_guess(product) > LEAST


def test_wide_networks_begin_with_few_steps():
    mesh = parallel.make_mesh(1, 1)

    def guess(**settings):
        experiment = tiny(**settings)
        feed = resident_feed(experiment.dataset.split("train"), 100, seed=0)
        state = jax.eval_shape(lambda: first_state(experiment, mesh))
        resident = parallel.place(feed.resident, mesh)
        return parallel.compile_steps(experiment, feed, mesh, state, resident).guess

    narrow, wide = guess(hidden=(16,)), guess(hidden=(4096, 4096))
    assert 100 * narrow < LIMIT < 100 * wide
