"""Choices that settings leave to `auto`."""

import numpy as np
import pytest

from vaejax import likelihoods as li
from vaejax import presets


def decoder(**settings):
    experiment = presets.vae(**{"hidden": (4,), "latents": 2} | settings)
    return experiment.model.decoder.likelihood, experiment.preprocess.values


@pytest.mark.parametrize(
    ("settings", "likelihood", "values"),
    [
        ({"dataset": "digits"}, li.Bernoulli, "binary"),
        ({"dataset": "breast_cancer"}, li.Gaussian, "real"),
        ({"dataset": "digits", "likelihood": "laplace"}, li.Laplace, "grey"),
        ({"dataset": "digits", "likelihood": "categorical"}, li.Categorical, "grey"),
        ({"dataset": "digits", "binarize": "none"}, li.Bernoulli, "grey"),
        (
            {"dataset": "digits", "likelihood": "gaussian", "binarize": "static"},
            li.Gaussian,
            "binary",
        ),
        (
            {"dataset": "digits", "likelihood": "gaussian", "dequantize": True},
            li.Gaussian,
            "dequantized",
        ),
    ],
)
def test_likelihood_and_binarization_fit_each_other(settings, likelihood, values):
    found, seen = decoder(**settings)
    assert type(found) is likelihood
    assert seen == values


def test_the_fixed_sigma_is_a_setting():
    found, _ = decoder(dataset="digits", likelihood="gaussian_fixed", sigma=0.3)
    assert found == li.GaussianFixed(0.3)


def test_grey_targets_of_a_bernoulli_are_said():
    experiment = presets.vae(dataset="digits", binarize="none")
    assert "no likelihood of grey levels" in experiment.notes[0]
    assert presets.vae(dataset="digits").notes == ()


def test_static_binarization_belongs_to_the_example_and_dynamic_to_the_access():
    import jax

    raw = {"x": np.full((2, 64), 128, np.uint8), "index": np.array([5, 9])}
    for binarize, same in (("static", True), ("dynamic", False)):
        apply = presets.vae(dataset="digits", binarize=binarize).preprocess.apply
        one, other = (apply(raw, jax.random.key(seed))["x"] for seed in (0, 1))
        assert bool((one == other).all()) is same
        assert not (one[0] == one[1]).all()
        # 128 bits of probability 128 / 255: five standard deviations of the mean
        assert abs(one.mean() - 128 / 255) < 5 * 0.5 / 128**0.5
