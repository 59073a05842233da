"""Distances of reconstructions in features, by evaluate and beside those of samples."""

import json

import numpy as np
import pytest

import vaejax
from vaejax import presets
from vaejax.cli import commands
from vaejax.cli.judging import Judges
from vaejax.cli.measuring import EvaluationSettings
from vaejax.metrics import fid, frechet_distance, kernel_distance
from vaejax.metrics.classifier import looked_at
from vaejax.metrics.quantities import OF_SAMPLES, meaning_of
from vaejax.metrics.reconstructions import (
    compare_reconstructions,
    reconstruction_distances,
    reconstructions_of,
    reconstructs,
)
from vaejax.metrics.sources import FeatureSource, held_out_units, random_features
from vaejax.training.evaluator import held_out_examples

TINY = {"dataset": "digits", "hidden": (8,), "latents": 2, "epochs": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reconstructions") / "vae"
    experiment = presets.vae(**TINY)
    return folder, experiment, vaejax.train(experiment, folder, quiet=True, devices=1)


def pixels(x):
    assert x.dtype == np.uint8 and x.shape[1:] == (8, 8, 1)
    return x[:, 2:6, 3:5].reshape(len(x), -1).astype(float)


def test_reconstructions_are_of_the_examples_that_they_are_compared_with(run):
    """`reconstruct` sees bits and gives grey levels, as the images have them."""
    _, experiment, state = run
    test = experiment.dataset.split("test")["x"].reshape(-1, 8, 8, 1)
    real = held_out_units(experiment, 60)
    rows = [np.flatnonzero((test == x).all((1, 2, 3)))[0] for x in real]
    assert len(set(rows)) == 60
    found = np.concatenate(list(reconstructions_of(experiment, state, 60, chunk=25)))
    bits = held_out_examples(experiment, 60)["x"]
    np.testing.assert_allclose(
        found, vaejax.reconstruct(experiment, state, bits), atol=1e-6
    )
    # Bits are drawn of these grey levels: ones are where images are brighter.
    assert real[bits == 1].mean() > 2 * real[bits == 0].mean()
    grey = np.round(np.clip(found, 0, 1) * 255).astype(np.uint8)
    source = FeatureSource("few", pixels)
    numbers = compare_reconstructions(experiment, state, source, 60)
    a, b = pixels(real), pixels(grey)
    assert numbers == {
        "rfd_few": pytest.approx(frechet_distance(a, b), rel=1e-6),
        "rkd_few": pytest.approx(kernel_distance(a, b).value, rel=1e-6),
    }
    for name in numbers:
        assert meaning_of(OF_SAMPLES, name), name


def test_images_made_again_exactly_are_at_no_distance(run):
    real = pixels(held_out_units(run[1], 60))
    found = reconstruction_distances(real, real.copy(), "few")
    assert found["rfd_few"] == pytest.approx(0, abs=1e-6 * real.var())


def test_inception_has_its_own_names(run):
    """The source's names, here in other features."""
    _, experiment, state = run
    source = FeatureSource("inception", pixels, renamed=fid.NAMES)
    found = compare_reconstructions(experiment, state, source, 40)
    assert list(found) == ["rfid", "rkid"]
    assert all("Inception" in meaning_of(OF_SAMPLES, name) for name in found)


def test_an_evaluation_has_them_beside_those_of_samples(run, tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "try_report", lambda *run: None)
    judge = presets.classifier(dataset="digits", hidden=(8,), epochs=1)
    vaejax.train(judge, tmp_path / "classifier", quiet=True, devices=1)
    judges = Judges(tmp_path / "classifier", num=40, features="random")
    commands.evaluate_run(run[0], EvaluationSettings(samples=0), judges)
    written = json.loads((run[0] / "evaluation.json").read_text())
    _, experiment, state = run
    source = random_features(experiment.dataset.spec)
    expected = compare_reconstructions(experiment, state, source, 40)
    assert {n: pytest.approx(v, rel=1e-6) for n, v in expected.items()}.items() <= (
        written.items()
    )
    bits = held_out_examples(experiment, 40)["x"]
    judge, trained = vaejax.load(tmp_path / "classifier")
    pair = (
        held_out_units(experiment, 40) / np.float32(255),
        np.asarray(vaejax.reconstruct(experiment, state, bits)),
    )
    a, b = (looked_at(judge, trained, iter([x]))[1] for x in pair)
    distance = frechet_distance(a.astype(float), b.astype(float))
    assert written["rfd_classifier_digits"] == pytest.approx(distance, rel=1e-4)
    assert written["rfd_classifier_digits"] != written["fd_classifier_digits"]
    assert np.isfinite(written["rkd_classifier_digits"])


def test_models_that_make_no_examples_again_have_none(run):
    assert reconstructs(run[1])
    gan = presets.gan(**TINY)
    holes = presets.miwae(**TINY, hide="mcar")
    part = presets.cvae_sohn(dataset="digits", hidden=(8,), latents=2)
    assert not any(map(reconstructs, (gan, holes, part)))
