"""Runs of the first edition, at commit 933f471, load and evaluate as they did then.

`fixtures/runs_933f471.zip` holds two runs of two epochs on `digits`, of one device:
`vae` with an optimal Gaussian, whose running variance is a statistic beside the
parameters, and `wgan_gp`, whose gated players have optimizers with schedules.
"""

import zipfile
from pathlib import Path

import pytest

from vaejax import evaluate, load, train

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
    with zipfile.ZipFile(RUNS) as archive:
        archive.extractall(folder)
    return folder


@pytest.mark.parametrize("name", FIGURES)
def test_an_old_run_has_its_figures(runs, name):
    """Equal but for the order of float32 sums over 359 examples."""
    values = evaluate(*load(runs / name), samples=20)
    for figure, value in FIGURES[name].items():
        assert values[figure] == pytest.approx(value, rel=1e-5), figure


@pytest.mark.parametrize("name", FIGURES)
def test_an_old_run_that_is_finished_is_not_trained_again(runs, name):
    experiment, state = load(runs / name)
    assert train(experiment, runs / name, quiet=True, devices=1).step == state.step
