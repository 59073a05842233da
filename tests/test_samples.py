"""Distances between sets of features against closed forms, and a judged run."""

import json

import numpy as np
import pytest

from vaejax import InputError, load, presets, train
from vaejax.cli import commands
from vaejax.cli.judging import Judges
from vaejax.cli.measuring import EvaluationSettings
from vaejax.metrics.classifier import judged
from vaejax.metrics.samples import frechet_distance, kernel_distance, squared_mmd

RNG = np.random.default_rng(0)


def test_the_frechet_distance_of_whitened_sets_is_known():
    """Sets with exact moments: |m|^2 + sum (s_a - s_b)^2 where covariances commute."""
    x = RNG.normal(size=(500, 4))
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T
    scale, shift = np.array([1.0, 2.0, 0.5, 3.0]), np.array([1.0, 0.0, -2.0, 0.0])
    expected = np.square(shift).sum() + np.square(scale - 1).sum()
    assert frechet_distance(x, x * scale + shift) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)


def test_the_frechet_distance_agrees_with_the_matrix_root():
    from scipy.linalg import sqrtm

    a = RNG.normal(size=(200, 5)) @ RNG.normal(size=(5, 5))
    b = RNG.normal(size=(200, 5)) @ RNG.normal(size=(5, 5)) + 1
    s_a, s_b = np.cov(a.T), np.cov(b.T)
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(
        s_a + s_b - 2 * sqrtm(s_a @ s_b).real
    )
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_the_discrepancy_is_its_definition_over_pairs():
    a, b = RNG.normal(size=(6, 3)), RNG.normal(size=(6, 3))

    def kernel(x, y):
        return (x @ y / 3 + 1) ** 3

    pairs = [(i, j) for i in range(6) for j in range(6) if i != j]
    within = np.mean([kernel(a[i], a[j]) + kernel(b[i], b[j]) for i, j in pairs])
    across = np.mean([kernel(x, y) for x in a for y in b])
    assert squared_mmd(a, b) == pytest.approx(within - 2 * across)


def test_the_kernel_distance_is_unbiased_and_sees_a_shift():
    a, b = RNG.normal(size=(2000, 3)), RNG.normal(size=(2000, 3))
    same = kernel_distance(a, b, subsets=20, size=500)
    # One pair of finite sets: the mean over subsets keeps the sets' own deviation.
    assert abs(same.value) < 4 * same.spread
    assert kernel_distance(a, b + 1, subsets=20, size=500).value > 10 * same.spread


def test_the_kernel_distance_of_whole_sets_has_no_spread():
    a, b = RNG.normal(size=(2, 30, 3))
    found = kernel_distance(a, b, subsets=3)
    assert found.value == pytest.approx(squared_mmd(a, b))
    assert np.isnan(found.spread)
    assert kernel_distance(a, b, subsets=3, size=20).spread > 0


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge") / "classifier"
    experiment = presets.classifier(dataset="digits", hidden=(64,), epochs=10)
    train(experiment, folder, quiet=True, devices=1)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge") / "cvae"
    experiment = presets.cvae(
        dataset="digits", hidden=(64,), latents=4, epochs=30, learning_rate=3e-3
    )
    train(experiment, folder, quiet=True, devices=1)
    return folder


def test_a_judged_run_says_what_it_was_judged_by(classifier, run):
    values = judged(*load(run), classifier, num=500)
    assert values["label_accuracy"] > 0.8  # chance is 0.1
    assert values["least_class_share"] > 0.03
    assert values["fd_classifier_digits"] > 0
    assert values["generated"] == 500
    assert values["compared_with"] == 359
    assert len(values["classifier_digest"]) == 16
    assert values == judged(*load(run), classifier, num=500)
    assert not any("fid" in name for name in values)


def test_an_evaluation_with_a_classifier_is_written(classifier, run):
    """At temperature 0 all samples of a label are one picture, seen as one class."""
    no_draws = EvaluationSettings(samples=0)
    judges = Judges(classifier, num=200, temperature=0.0)
    commands.evaluate_run(run, no_draws, judges)
    written = json.loads((run / "evaluation.json").read_text())
    assert written["generated"] == 200 and written["temperature"] == 0
    assert written["label_accuracy"] > 0.8
    for share in (written["label_accuracy"], written["least_class_share"]):
        assert share == pytest.approx(round(10 * share) / 10)
    with pytest.raises(InputError, match="temperature -1"):
        commands.evaluate_run(run, no_draws, Judges(temperature=-1.0))


def test_only_a_classifier_judges(classifier, run):
    with pytest.raises(InputError, match="train a classifier"):
        judged(*load(run), run)
    with pytest.raises(InputError, match="generates nothing"):
        judged(*load(classifier), classifier)
