"""PSNR and SSIM against their definitions over windows, and where they are reported."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vaejax
from vaejax import InputError, presets
from vaejax.experiment import variables_of
from vaejax.metrics import (
    multiscale_similarity,
    peak_signal_to_noise,
    quality_metrics,
    structural_similarity,
)
from vaejax.metrics.images import image_quality, ssim_scales
from vaejax.metrics.quantities import meaning_of, quantities_of

RNG = np.random.default_rng(0)
EPS = np.finfo(np.float32).eps


def by_definition(x, y, size, luminance=True):
    """SSIM of two images `[H, W]`, window by window [Wang et al. 2004, eqs. 13-16];
    without luminance the mean of contrast times structure alone.
    """
    offsets = np.arange(size) - size // 2
    one = np.exp(-(offsets**2) / (2 * 1.5**2))
    weights = np.outer(one, one) / one.sum() ** 2
    values = []
    for i in range(x.shape[0] - size + 1):
        for j in range(x.shape[1] - size + 1):
            a, b = x[i : i + size, j : j + size], y[i : i + size, j : j + size]
            m_a, m_b = (weights * a).sum(), (weights * b).sum()
            v_a = (weights * (a - m_a) ** 2).sum()
            v_b = (weights * (b - m_b) ** 2).sum()
            c = (weights * (a - m_a) * (b - m_b)).sum()
            values.append((2 * c + 9e-4) / (v_a + v_b + 9e-4))
            if luminance:
                values[-1] *= (2 * m_a * m_b + 1e-4) / (m_a**2 + m_b**2 + 1e-4)
    return np.mean(values)


@pytest.mark.parametrize(("shape", "size"), [((13, 16, 2), 11), ((8, 12, 1), 7)])
def test_ssim_is_its_definition(shape, size):
    """In float32 a variance near 0 is wrong by some eps of the squares, at most 1/4;
    beside the constant 9e-4 that is a relative error of 300 eps, here with margin 10.
    """
    x = RNG.random((3, *shape), dtype=np.float32)
    y = np.clip(x + RNG.normal(0, 0.1, x.shape), 0, 1).astype(np.float32)
    y[2] = 0.25  # without variance
    expected = [
        np.mean([by_definition(a[..., c], b[..., c], size) for c in range(shape[-1])])
        for a, b in zip(x.astype(float), y.astype(float), strict=True)
    ]
    found = structural_similarity(jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_allclose(found, expected, rtol=3e3 * EPS, atol=3e3 * EPS)
    np.testing.assert_allclose(
        structural_similarity(jnp.asarray(x), jnp.asarray(x)), 1, rtol=3e3 * EPS
    )


WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # [Wang et al. 2003, sec. 3.2]


@pytest.mark.parametrize(("side", "scales"), [(11, 1), (22, 2), (45, 3)])
def test_multiscale_ssim_is_its_definition(side, scales):
    """The product over scales, in float64 and window by window; images of 45 pixels
    have 22 and 11 at the next scales. The error of a power is no larger.
    """
    x = RNG.random((2, side, side + 1, 2))
    y = np.clip(x + RNG.normal(0, 0.2, x.shape), 0, 1)
    expected = np.ones((2, 2))
    a, b = x, y
    for scale in range(scales):
        weight = WEIGHTS[scale] / sum(WEIGHTS[:scales])
        for i, c in np.ndindex(2, 2):
            last = scale == scales - 1
            factor = by_definition(a[i, ..., c], b[i, ..., c], 11, luminance=last)
            expected[i, c] *= factor**weight
        h, w = (n // 2 * 2 for n in a.shape[1:3])
        a, b = (
            sum(v[:, i:h:2, j:w:2] for i in (0, 1) for j in (0, 1)) / 4 for v in (a, b)
        )
    found = multiscale_similarity(jnp.asarray(x, "f4"), jnp.asarray(y, "f4"))
    np.testing.assert_allclose(found, expected.mean(1), rtol=3e3 * EPS)


def test_multiscale_ssim_of_closed_cases():
    """An image against itself has 1; constant images differ in luminance alone, to the
    power of the last weight; images without a common structure have 0, and a slope.
    """
    assert ssim_scales((176, 200, 3)) == 5 and ssim_scales((175, 200, 3)) == 4
    x = jnp.asarray(RNG.random((1, 176, 176, 1)), jnp.float32)
    np.testing.assert_allclose(multiscale_similarity(x, x), 1, rtol=3e3 * EPS)
    a, b = jnp.full_like(x, 0.3), jnp.full_like(x, 0.6)
    luminance = (2 * 0.3 * 0.6 + 1e-4) / (0.3**2 + 0.6**2 + 1e-4)
    found = multiscale_similarity(a, b)
    np.testing.assert_allclose(found, luminance ** WEIGHTS[-1], rtol=3e3 * EPS)
    small = x[:, :22, :22]
    found, slope = jax.value_and_grad(lambda y: multiscale_similarity(small, y).sum())(
        1 - small
    )
    assert found == 0 and np.isfinite(slope).all()
    with pytest.raises(InputError, match="too small for MS-SSIM"):
        multiscale_similarity(x[:, :10], x[:, :10])


def test_images_that_hold_no_window_have_no_ssim():
    with pytest.raises(InputError, match="too small"):
        structural_similarity(jnp.zeros((1, 2, 9, 1)), jnp.zeros((1, 2, 9, 1)))


def test_psnr_of_known_errors():
    """10 log10(1 / 0.1^2) = 20 dB; equal images have the most that is said."""
    x = jnp.full((2, 4, 4, 3), 0.5)
    y = x.at[0].add(0.1)
    np.testing.assert_allclose(peak_signal_to_noise(x, y), [20, 100], rtol=1e-5)


@pytest.fixture(scope="module")
def trained():
    rng = np.random.default_rng(1)
    data = vaejax.from_arrays(rng.integers(0, 256, (40, 6, 6), dtype=np.uint8))
    experiment = presets.autoencoder(
        dataset=data, hidden=(8,), latents=2, epochs=1, batch_size=8
    )
    return experiment, vaejax.train(experiment, quiet=True)


def test_an_evaluation_reports_the_queries_reconstructions(trained):
    """The means over images of what `reconstruct` gives, clamped to [0, 1]."""
    experiment, state = trained
    values = vaejax.evaluate(experiment, state, samples=1, batch_size=3)
    x = experiment.dataset.split("test")["x"].reshape(-1, 6, 6, 1) / np.float32(255)
    y = np.clip(vaejax.reconstruct(experiment, state, x), 0, 1)
    psnr = -10 * np.log10(np.square(x - y).mean((1, 2, 3)))
    ssim = [by_definition(a[..., 0], b[..., 0], 5) for a, b in zip(x, y, strict=True)]
    assert values["psnr"] == pytest.approx(psnr.mean(), rel=1e-5)
    error = psnr.std(ddof=1) / np.sqrt(len(psnr))
    assert values["psnr_se"] == pytest.approx(error, rel=1e-3)
    assert values["ssim"] == pytest.approx(np.mean(ssim), rel=1e-3, abs=1e-4)
    assert values["l1"] == pytest.approx(np.abs(x - y).mean(), rel=1e-5)
    assert "ms_ssim" not in values  # of six pixels
    told = quantities_of(experiment)
    assert "clamped" in meaning_of(told, "psnr") and meaning_of(told, "l1")
    assert meaning_of(told, "psnr").endswith("dB")
    assert "5 pixels" in meaning_of(told, "ssim")


def test_they_are_of_whole_grey_images_that_are_encoded_and_decoded(trained):
    experiment, _ = trained
    model, spec = experiment.model, experiment.dataset.spec
    assert quality_metrics(model, spec, "grey") and quality_metrics(
        model, spec, "dequantized"
    )
    assert not quality_metrics(model, spec, "binary")
    assert not quality_metrics(model, spec._replace(masked=True), "grey")
    assert not quality_metrics(model, spec._replace(kind="table", shape=(36,)), "real")
    generator = presets.gan(
        dataset=experiment.dataset, hidden=(8,), latents=2, batch_size=8
    )
    assert "quality" not in generator.metrics(1)
    assert "quality" in experiment.metrics(1)
    assert "quality" not in experiment.metrics(0)  # of every evaluation in training


def test_the_scales_of_multiscale_ssim_are_said():
    told = image_quality((28, 28, 1)).quantities
    assert "2 of 5 scales" in told["ms_ssim"].text
    assert list(image_quality((21, 28, 1)).quantities) == ["psnr", "l1", "ssim"]
    assert list(image_quality((2, 28, 1)).quantities) == ["psnr", "l1"]


def test_padding_does_not_count(trained):
    """A padded batch's junk has weight 0, and may be anything."""
    experiment, state = trained
    metric = experiment.metrics(1)["quality"]
    update = jax.jit(metric.update, static_argnums=1)
    x = jnp.asarray(RNG.random((4, 6, 6, 1)), jnp.float32)

    def folded(x, weight):
        batch = {"x": x, "weight": jnp.asarray(weight)}
        variables = variables_of(state)
        return metric.compute(
            update(metric.init(), experiment.model, variables, batch, jax.random.key(0))
        )

    padded = folded(x.at[2:].set(jnp.nan), [1.0, 1, 0, 0])
    other = folded(x.at[2:].set(1e3), [1.0, 1, 0, 0])
    whole = folded(x, [1.0, 1, 1, 1])
    for name, value in padded.items():
        np.testing.assert_array_equal(value, other[name])
        assert value != whole[name]
