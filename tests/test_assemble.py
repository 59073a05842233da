"""Choices that settings leave to `auto`."""

import numpy as np
import pytest

import vaejax
from vaejax import presets
from vaejax.data import open_dataset
from vaejax.models import likelihoods as li
from vaejax.training.config import check_config, config_of, differences, likelihood_of


def decoder(**settings):
    experiment = presets.vae(
        **{"hidden": (4,), "latents": 2, "batch_size": 8} | settings
    )
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
    assert "no likelihood of grey levels" in experiment.notes[1]
    assert presets.vae(dataset="digits").notes == (
        "pictures 8 x 8 x 1 (height, width, channels): --likelihood bernoulli (auto)",
    )


PICTURES = "pictures 8 x 8 x 1 (height, width, channels): "


@pytest.mark.parametrize(
    ("preset", "settings", "line"),
    [
        ("vae", {"likelihood": "bernoulli"}, PICTURES + "--likelihood bernoulli"),
        (
            "vae_flax_example",
            {},
            PICTURES + "likelihood Bernoulli, fixed by the preset",
        ),
        ("gan", {}, PICTURES + "no likelihood"),
        (
            "vae",
            {"dataset": "breast_cancer"},
            "table of 30 columns: --likelihood gaussian (auto)",
        ),
        (
            "miwae",
            {"dataset": "breast_cancer", "likelihood": "student_t"},
            "table of 30 columns: --likelihood student_t",
        ),
    ],
)
def test_every_run_names_its_example_and_its_likelihood(preset, settings, line):
    experiment = getattr(presets, preset)(**{"dataset": "digits"} | settings)
    assert experiment.notes[0] == line


def photographs(channels):
    levels = np.random.default_rng(0).integers(0, 256, (40, 6, 5, channels))
    return vaejax.from_arrays(levels.astype(np.uint8), name="photographs")


@pytest.mark.parametrize(
    ("channels", "settings", "likelihood", "values"),
    [
        (3, {}, li.LogisticMixture, "grey"),
        (1, {}, li.LogisticMixture, "grey"),
        (3, {"dequantize": True}, li.GaussianOptimal, "dequantized"),
        (3, {"hide": "half"}, li.GaussianOptimal, "grey"),
        (1, {"hide": "half"}, li.LogisticMixture, "grey"),
        (1, {"binarize": "static"}, li.Bernoulli, "binary"),
        (3, {"likelihood": "bernoulli"}, li.Bernoulli, "binary"),
    ],
)
def test_photographs_are_not_bits(channels, settings, likelihood, values):
    found, seen = decoder(dataset=photographs(channels), **settings)
    assert (type(found), seen) == (likelihood, values)


@pytest.mark.parametrize(("share", "bits"), [(0.58, False), (0.62, True)])
def test_grey_is_bits_where_most_pixels_are_near_them(share, bits):
    # Pixels of level 25 and 230 (within 0.1 of 0 and 1), the others in the middle
    x = np.full((40, 50), 128, np.uint8)
    x[:, : round(50 * share)] = np.where(np.arange(round(50 * share)) % 2, 25, 230)
    data = vaejax.from_arrays(x.reshape(40, 10, 5))
    assert data.spec.nearly_binary is bits
    assert open_dataset("digits").spec.nearly_binary
    assert open_dataset("mnist_5k").spec.nearly_binary


def test_the_likelihood_is_in_the_config_and_older_runs_took_bits():
    tiny = {"dataset": photographs(3), "hidden": (4,), "latents": 2, "batch_size": 8}
    made = presets.vae(**tiny)
    config = config_of(made)
    assert (config["likelihood"], config["shape"]) == ("logistic_mixture", [6, 5, 3])
    check_config(config)
    old = {k: v for k, v in config.items() if k not in ("likelihood", "shape")}
    old["data"] = {k: v for k, v in old["data"].items() if k != "nearly_binary"}
    check_config(old)
    assert likelihood_of(old) == "bernoulli"
    # The command that began an older run is told what to say, and then goes on.
    assert differences(old, config) == ["likelihood bernoulli (here logistic_mixture)"]
    same = presets.vae(**tiny, likelihood="bernoulli")
    assert differences(old, config_of(same)) == []
    # A GAN has no likelihood: an older one goes on as it was.
    gan = config_of(presets.gan(**tiny))
    assert gan["likelihood"] == ""
    older = {k: v for k, v in gan.items() if k not in ("likelihood", "shape")}
    older["data"] = old["data"]
    assert differences(older, gan) == []


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
