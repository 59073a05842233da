"""Runs of the first edition, at commit 933f471, load and evaluate as they did then.

`fixtures/runs_933f471.zip` holds two runs of two epochs on `digits`, of one device:
`vae` with an optimal Gaussian, whose running variance is a statistic beside the
parameters, and `wgan_gp`, whose gated players have optimizers with schedules.
"""

import shutil
from pathlib import Path

import jax
import pytest

from vaejax import evaluate, load, presets, train

RUNS = Path(__file__).parent / "fixtures" / "runs_933f471.zip"
FIGURES = {
    "vae": {
        "elbo": -76.1139144897461,
        "nll": 65.56169891357422,
        "bits_per_dim": 9.472251892089844,
        "active_units": 2,
        "examples": 359,
    },
    "wgan_gp": {
        "real_score": -0.3313920199871063,
        "fake_score": -0.3673180341720581,
        "gap": 0.03592607378959656,
        "examples": 359,
    },
}
"""`evaluate(..., samples=20)` at 933f471."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    shutil.unpack_archive(RUNS, folder)
    return folder


@pytest.mark.parametrize("name", FIGURES)
def test_an_old_run_has_its_figures(runs, name):
    """Equal but for the order of float32 sums over 359 examples."""
    values = evaluate(*load(runs / name), samples=20)
    for figure, value in FIGURES[name].items():
        assert values[figure] == pytest.approx(value, rel=1e-5), figure


def test_an_old_run_keeps_the_decay_it_was_trained_with(runs):
    """Adam's second moment: .9 is the default of Gulrajani et al. 2017, alg. 1."""
    assert load(runs / "wgan_gp")[0].arguments["beta2"] == 0.999
    assert presets.wgan_gp(dataset="digits").arguments["beta2"] == 0.9


def test_an_old_run_goes_on_as_it_would_have(runs):
    """Its running variance keeps .99 of itself; new runs count their batches."""
    _, state = load(runs / "vae")
    masses = [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(state.stats)
        if path[-1].key == "mass"
    ]
    assert [float(mass) for mass in masses] == [1.0]


@pytest.mark.parametrize("name", FIGURES)
def test_an_old_run_that_is_finished_is_not_trained_again(runs, name):
    experiment, state = load(runs / name)
    assert train(experiment, runs / name, quiet=True, devices=1).step == state.step
