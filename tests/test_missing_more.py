"""Missing data: keys, self-masking by quadrature, draws, edges of masks and data."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, log_expit
from scipy.stats import multivariate_normal, norm

from vaejax import InputError, evaluate, from_arrays, presets, train
from vaejax.data import Spec, masks, open_dataset
from vaejax.data.holes import hide
from vaejax.data.splits import restore
from vaejax.distributions import Normal
from vaejax.inference.imputation import choose, importance_imputation
from vaejax.inference.terms import infer
from vaejax.metrics.imputation import crps, interval
from vaejax.models import Blind, Constant, MissingVAE
from vaejax.parallel import make_mesh
from vaejax.training.loop import first_state

D = 5
TINY = {"hidden": (6,), "latents": 2, "epochs": 1, "batch_size": 8}
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def table():
    x = np.random.default_rng(0).normal(3, 2, size=(64, D))
    return from_arrays(x, x_test=x)


def variables_of(experiment):
    state = first_state(experiment, make_mesh(1, 1))
    return {"params": state.params, **state.stats}


@pytest.mark.parametrize(
    ("preset", "fill"),
    [("miwae", "zero"), ("not_miwae", "constant"), ("not_miwae", "mask")],
)
def test_a_nan_in_a_hole_leaves_every_gradient_finite(preset, fill, table):
    """Of the parameters and of x: a product with the mask would give NaN."""
    experiment = presets.PRESETS[preset](dataset=table, hide="mcar", fill=fill, **TINY)
    (player,) = experiment.players.values()
    raw = {n: jnp.asarray(a[:8]) for n, a in experiment.dataset.split("train").items()}
    raw["index"] = jnp.arange(8)
    x = jnp.where(raw["mask"] == 0, jnp.nan, raw["x"])

    def loss(variables, x):
        batch = experiment.preprocess.apply({**raw, "x": x}, KEY)
        return nn.apply(player.objective, experiment.model)(variables, batch, KEY)[0]

    both = jax.jit(jax.value_and_grad(loss, (0, 1)))
    value, slopes = both(variables_of(experiment), x)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((value, slopes)))
    assert bool((slopes[1][raw["mask"] == 0] == 0).all())


class Noise(nn.Module):
    """Latents, completions and logits of the mask: standard normal, as wide as x."""

    def __call__(self, like, batch=None):
        like = like["x"] if isinstance(like, dict) else like
        return Normal(jnp.zeros_like(like), jnp.ones_like(like))


class Even(nn.Module):
    """Logits of a mask that says nothing."""

    def __call__(self, x):
        return jnp.zeros_like(x)


def test_completions_and_latents_are_of_different_noise():
    """No key of a latent may be that of the completions: split(key)[i] is fold_in."""
    model, nothing = MissingVAE(Noise(), Noise(), Noise(), Even()), jnp.zeros((3, D))
    found = infer(model, {"x": nothing, "mask": nothing}, KEY, 4)
    # Two independent float32 normals coincide with a chance of about 1e-7.
    same = np.isin(np.asarray(found.x), np.asarray(found.z))
    assert same.mean() < 0.1


W = np.array([[1.0, 0.5, 0.0, -1.0, 0.3], [0.0, 1.0, -0.7, 0.4, 0.8]])
B = np.array([0.5, -0.2, 0.0, 1.0, 0.1])
SIGMA = 0.7
COVARIANCE = W.T @ W + SIGMA**2 * np.eye(D)
SLOPE = np.array([0.0, 3.0, -2.0, 1.0, 4.0])
THRESHOLD = np.array([0.0, 0.5, 0.2, -0.4, 0.0])


def linear(experiment):
    """Parameters of the linear model above; the proposal is N(0, I)."""
    params = jax.tree.map(jnp.zeros_like, variables_of(experiment)["params"])
    params["decoder"]["body"]["Dense_0"] = {"kernel": W, "bias": B}
    params["decoder"]["likelihood"]["log_sigma"] = np.log(SIGMA)
    if "missing" in params:
        params["missing"] = {"slope": SLOPE, "threshold": THRESHOLD}
    return {"params": jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)}


def conditional(x, m, o):
    """Means `[rows, m]` and the covariance of x[m] given x[o]."""
    gain = COVARIANCE[np.ix_(m, o)] @ np.linalg.inv(COVARIANCE[np.ix_(o, o)])
    rest = COVARIANCE[np.ix_(m, m)] - gain @ COVARIANCE[np.ix_(o, m)]
    return B[m] + (x[:, o] - B[o]) @ gain.T, rest


def test_self_masking_imputations_are_those_of_quadrature(table):
    """p(x_m | x_o, m) is the Gaussian conditional times the odds of being missing."""
    experiment = presets.not_miwae(
        dataset=table, body="linear", likelihood="gaussian", hide="mcar", **TINY
    )
    x = np.random.default_rng(0).multivariate_normal(B, COVARIANCE, 2 * D)
    mask = ~np.tile(np.eye(D, dtype=bool), (2, 1))
    seen = jnp.asarray(mask, jnp.float32)
    batch = {"x": jnp.asarray(np.where(mask, x, 0), jnp.float32), "mask": seen}
    found = importance_imputation(
        experiment.model,
        linear(experiment),
        batch,
        KEY,
        samples=20_000,
        draws=199,
        chunk=1000,
    )
    grid = np.linspace(-8, 8, 4001)
    shifted = 0
    for row in range(2 * D):
        m = np.flatnonzero(~mask[row])
        o = np.flatnonzero(mask[row])
        mean, rest = conditional(x[row : row + 1], m, o)
        mean, sd = mean.item(), np.sqrt(rest.item())
        t = mean + sd * grid
        weight = norm.pdf(grid) * expit(SLOPE[m] * (t - THRESHOLD[m]))
        exact = (weight * t).sum() / weight.sum()
        spread = np.sqrt((weight * np.square(t - exact)).sum() / weight.sum())
        log_p = multivariate_normal(B[o], COVARIANCE[np.ix_(o, o)]).logpdf(x[row, o])
        log_p += log_expit(-SLOPE[o] * (x[row, o] - THRESHOLD[o])).sum()
        log_p += np.log(weight.sum() * (grid[1] - grid[0]))
        # The standard error of a weighted mean is sd / sqrt(ess), of log p 1 / sqrt.
        error = 5 / np.sqrt(float(found.ess[row]))
        assert abs(float(found.mean[row, m[0]]) - exact) < error * spread
        assert abs(float(found.log_evidence[row]) - log_p) < error
        draws = np.asarray(found.draws)[:, row, m[0]]
        # 199 draws, resampled of about ess: both errors add.
        error = 5 * np.hypot(1 / np.sqrt(199), error / 5)
        assert abs(draws.mean() - exact) < error * spread
        shifted += abs(exact - mean) > error * spread
    assert shifted > 0  # else ignoring p(m | x) would pass


def test_draws_have_the_exact_law_where_chunks_do_not_divide_samples(table):
    """Of one example many times over: mean and covariance of what is hidden."""
    experiment = presets.miwae(
        dataset=table, body="linear", likelihood="gaussian", hide="mcar", **TINY
    )
    rows, m, o = 3000, np.array([2, 3, 4]), np.array([0, 1])
    x = np.tile(np.array([[1.2, -0.5, 0, 0, 0]], np.float32), (rows, 1))
    mask = jnp.asarray(np.isin(np.arange(D), o)[None].repeat(rows, 0), jnp.float32)
    found = importance_imputation(
        experiment.model,
        linear(experiment),
        {"x": jnp.asarray(x), "mask": mask},
        KEY,
        samples=501,  # the last chunk is of one
        draws=1,
        chunk=100,
    )
    (draws,) = np.asarray(found.draws)
    assert np.array_equal(draws[:, o], x[:, o])
    mean, rest = conditional(x[:1].astype(float), m, o)
    sd = np.sqrt(np.diag(rest))
    # The estimate of p(x_o), not of its log, is unbiased.
    exact = multivariate_normal(B[o], COVARIANCE[np.ix_(o, o)]).logpdf(x[0, o])
    ratio = np.exp(np.asarray(found.log_evidence) - exact)
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / np.sqrt(rows)
    # Rows are independent. The bias of self-normalizing is of the order of 1 / ess.
    bias = 2 / float(np.median(found.ess))
    assert bias < 0.05
    off = np.abs(draws[:, m].mean(0) - mean[0]) / sd
    assert (off < 5 / np.sqrt(rows) + bias).all()
    # An entry of a covariance of unit scales has a standard error up to sqrt(2 / N).
    off = np.abs(np.cov(draws[:, m].T) - rest) / np.outer(sd, sd)
    assert (off < 5 * np.sqrt(2 / rows) + bias).all()


def test_places_are_chosen_as_often_as_they_weigh():
    p, count = np.array([[0.1, 0.0], [0.6, 0.5], [0.3, 0.5]]), 20_000
    with np.errstate(divide="ignore"):
        log_w = jnp.asarray(np.log(p) - 50, jnp.float32)  # only ratios count
    chosen = np.asarray(choose(KEY, log_w, (count, 2)))
    share = np.stack([(chosen == k).mean(0) for k in range(3)])
    assert (np.abs(share - p) <= 5 * np.sqrt(p * (1 - p) / count)).all()


def test_an_interval_covers_each_of_200_exchangeable_values_equally():
    """Each in turn is the truth and the others the draws: exactly 190 are covered."""
    values = np.random.default_rng(0).permutation(200).astype(np.float32)
    others = np.stack([np.delete(values, n) for n in range(200)], 1)
    low, high = map(np.asarray, interval(jnp.asarray(others)))
    assert ((low <= values) & (values <= high)).sum() == 190


def test_crps_is_the_mean_over_pairs():
    rng = np.random.default_rng(0)
    draws, truth = rng.normal(size=(7, 3)), rng.normal(size=3)
    pairs = np.abs(draws[:, None] - draws[None]).sum((0, 1)) / (7 * 6)
    want = np.abs(draws - truth).mean(0) - pairs / 2
    found = crps(jnp.asarray(draws, jnp.float32), jnp.asarray(truth, jnp.float32))
    np.testing.assert_allclose(found, want, atol=1e-5)  # float32 sums of some ten


@pytest.mark.parametrize("how", ["mcar", "rectangle", "quadrant", "half"])
def test_a_mask_does_not_change_with_what_follows(how):
    """Nor with channels, which it has alike; splits and accesses: others, the same."""
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 10, 3), dtype=np.uint8)
    many = hide(from_arrays(x, x_test=x), how)
    few = hide(from_arrays(x[:9], x_test=x[:9]), how)
    mask = many.split("train")["mask"]
    assert np.array_equal(mask[:9], few.split("train")["mask"])
    assert np.array_equal(mask, many.split("train")["mask"])
    assert not np.array_equal(mask, many.split("test")["mask"])
    planes = mask.reshape(40, 8, 10, 3)
    assert (planes == planes[..., :1]).all()


def test_sides_of_rectangles_are_a_quarter_to_three_quarters():
    seen = masks.rectangle(masks.uniforms(0, 0, 3000, 4), 8, 12).reshape(-1, 8, 12)
    for axis, length in ((2, 8), (1, 12)):
        sides = (~seen).any(axis).sum(1)
        assert set(sides) == set(range(length // 4, 3 * length // 4 + 1))


def test_mar_reads_the_first_columns_alone():
    u, x = masks.uniforms(0, 0, 500, D), np.random.default_rng(0).normal(size=(500, D))
    mask = masks.mar(u, x, 0.5, 2)
    rest, first = x.copy(), x.copy()
    rest[:, 2:] = 9
    first[:, :2] *= -1
    assert np.array_equal(mask, masks.mar(u, rest, 0.5, 2))
    assert not np.array_equal(mask, masks.mar(u, first, 0.5, 2))


def test_images_bring_masks_and_a_split_without_one_is_whole():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (20, 4, 4), dtype=np.uint8)
    seen = rng.random(x.shape) < 0.5
    dataset = from_arrays(x, x_test=x, mask_test=seen)
    assert dataset.spec.masked
    assert np.array_equal(dataset.split("test")["mask"], seen.reshape(20, -1))
    assert (dataset.split("train")["mask"] == 1).all()
    for wrong in (seen[:, :3], np.full(x.shape, 2)):
        with pytest.raises(InputError, match="mask_train"):
            from_arrays(x, mask_train=wrong)


def test_holding_out_and_restoring_keep_nan_where_it_was():
    x = np.random.default_rng(0).normal(5, 3, size=(100, 3))
    x[:, 0] = np.arange(100)  # tells which row it was
    x[::7, 1] = np.nan
    own = restore(open_dataset(from_arrays(x, x_test=x), 0.2))
    for name, count in (("train", 80), ("validation", 20)):
        arrays = own.split(name)
        assert len(arrays["x"]) == count
        assert np.array_equal(np.isnan(arrays["x"]), arrays["mask"] == 0)
        row = np.round(arrays["x"][:, 0]).astype(int)
        # Standardized in float32: a rounding of values of some 100 at most.
        np.testing.assert_allclose(arrays["x"], x[row], atol=1e-4)


def test_holding_out_keeps_the_truth_of_what_is_hidden(table):
    """What is hidden is measured: it must not become a hole whose truth is 0."""
    held = open_dataset(hide(table, "mcar"), 0.25)
    for name in ("train", "validation"):
        arrays = held.split(name)
        hidden = arrays["hidden"] == 1
        assert hidden.any()
        assert (arrays["x"][hidden] != 0).all()  # the data are continuous


def test_a_description_of_holes_survives_json(table):
    spec = hide(table, "mcar").spec
    assert spec.masked
    assert spec.hidden
    assert Spec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_training_on_holes_alone_reports_no_errors_of_imputation():
    """Nothing was hidden on purpose, so there is no truth to measure by."""
    x = np.random.default_rng(0).normal(size=(60, 3))
    x[::4, 1] = np.nan
    experiment = presets.miwae(dataset=from_arrays(x), samples=3, **TINY)
    state = train(experiment, quiet=True, devices=1)
    found = evaluate(experiment, state, samples=20)
    assert all(np.isfinite(value) for value in found.values())
    assert not {"rmse", "coverage", "width", "crps", "ess"} & set(found)


def test_input_dropout_hides_from_the_encoder_in_training_alone():
    """A share of what is observed; its parameters are those of the reader alone."""
    x = jnp.ones((50, 40))
    mask = jnp.concatenate([x[:, :20], 0 * x[:, 20:]], axis=1)
    batch = {"x": x * mask, "mask": mask}
    blind, plain = Blind(0.25, Constant()), Constant()
    variables = {"params": {"constant": jnp.full((40,), 7.0)}}
    assert jax.tree.structure(variables) == jax.tree.structure(
        blind.init(jax.random.key(0), batch)
    )
    np.testing.assert_array_equal(
        blind.apply(variables, batch), plain.apply(variables, batch)
    )
    seen = blind.apply(variables, batch, rngs={"dropout": jax.random.key(1)})
    assert set(np.unique(seen)) == {1.0, 7.0}
    assert (seen[:, 20:] == 7).all()
    share, error = (seen[:, :20] == 7).mean(), np.sqrt(0.25 * 0.75 / 1000)
    assert abs(share - 0.25) < 4 * error
