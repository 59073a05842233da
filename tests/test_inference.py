"""Inference on a model whose marginal likelihood and posterior are known.

`LinearGaussian` is the oracle of the objectives and metrics too. EPS is the rounding of
one float32 operation; sampling tests allow 5 standard errors.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from vaejax import distributions as d
from vaejax.inference.terms import infer, observed_log_prob
from vaejax.models import VAE, Decoder, LatentModel, StandardNormal
from vaejax.models.likelihoods import LIKELIHOODS
from vaejax.nn import networks as net

EPS = float(np.finfo(np.float32).eps)
KEY = jax.random.key(0)
D, L, BATCH = 5, 2, 7


class LinearGaussian(LatentModel):
    """x = W z + b + sigma eps, z ~ N(0, I); q(z | x) = N(A (x - b), diag(s^2)).

    log p(x) = log N(x; b, W W' + sigma^2 I), and the posterior has the precision
    I + W' W / sigma^2, which is diagonal where the columns of W are orthogonal.
    """

    laplace: bool = False  # q a Laplace of that location and scale

    def setup(self):
        zeros = nn.initializers.zeros
        self.W = self.param("W", zeros, (D, L))
        self.b = self.param("b", zeros, (D,))
        self.log_sigma = self.param("log_sigma", zeros, ())
        self.A = self.param("A", zeros, (L, D))
        self.log_s = self.param("log_s", zeros, (L,))

    def posterior(self, batch):
        mean = (batch["x"] - self.b[None]) @ self.A.T
        scale = jnp.broadcast_to(jnp.exp(self.log_s), mean.shape)
        return (d.Laplace if self.laplace else d.Normal)(mean, scale)

    def prior(self, batch):
        return d.Normal(jnp.zeros((1, L)), jnp.ones((1, L)))

    def likelihood(self, z, batch):
        return d.Normal(z @ self.W.T + self.b[None, None], jnp.exp(self.log_sigma))


def exact_posterior(p):
    """Mean matrix A and covariance of p(z | x)."""
    variance = np.exp(2 * p["log_sigma"])
    covariance = np.linalg.inv(np.eye(L) + p["W"].T @ p["W"] / variance)
    return covariance @ p["W"].T / variance, covariance


def parameters(*, orthogonal: bool, wrong: bool):
    """Float64 parameters: q is the exact posterior, or another Gaussian."""
    rng = np.random.default_rng(0)
    W = rng.normal(size=(D, L))
    if orthogonal:
        W = np.linalg.qr(W)[0] * [1.5, 0.7]
    p = {"W": W, "b": rng.normal(size=D), "log_sigma": np.log(0.6)}
    A, covariance = exact_posterior(p)
    p |= {"A": A, "log_s": np.log(np.diag(covariance)) / 2}
    if wrong:
        p |= {"A": A + 0.1 * rng.normal(size=(L, D)), "log_s": p["log_s"] + [0.3, -0.2]}
    return p


EXACT = parameters(orthogonal=True, wrong=False)
WRONG = parameters(orthogonal=False, wrong=True)


def variables(p):
    return {"params": {n: jnp.asarray(a, jnp.float32) for n, a in p.items()}}


def data(p, count: int = BATCH):
    """Draws from the model itself."""
    rng = np.random.default_rng(1)
    z, noise = rng.normal(size=(count, L)), rng.normal(size=(count, D))
    x = z @ p["W"].T + p["b"] + np.exp(p["log_sigma"]) * noise
    return {"x": jnp.asarray(x, jnp.float32)}


def log_evidence(p, x):
    """log p(x), nats."""
    covariance = p["W"] @ p["W"].T + np.exp(2 * p["log_sigma"]) * np.eye(D)
    return scipy.stats.multivariate_normal(p["b"], covariance).logpdf(np.asarray(x))


def gap(p, x):
    """KL(q || p(z | x)), nats: between a diagonal and a full Gaussian."""
    A, covariance = exact_posterior(p)
    q_variance, precision = np.exp(2 * p["log_s"]), np.linalg.inv(covariance)
    delta = (np.asarray(x, float) - p["b"]) @ (p["A"] - A).T
    mahalanobis = np.einsum("bl,lm,bm->b", delta, precision, delta)
    log_ratio = np.linalg.slogdet(covariance)[1] - np.log(q_variance).sum()
    return (np.diag(precision) @ q_variance + mahalanobis - L + log_ratio) / 2


def apply(function, model=None):
    """`function(bound model, batch, key, ...)` of variables, compiled."""
    return jax.jit(nn.apply(function, model or LinearGaussian()), static_argnums=3)


run = apply(infer)
# Terms of log w are below 100 nats and some ten of them are added.
ROUNDING = 10 * 100 * EPS


def assert_mean(samples, mean, slack=0.0) -> None:
    """Over the leading axis, within 5 standard errors."""
    samples = np.asarray(samples, np.float64)
    error = samples.std(0, ddof=1) / np.sqrt(len(samples))
    np.testing.assert_array_less(abs(samples.mean(0) - mean), 5 * error + slack)


def test_weights_of_the_exact_posterior_are_constant():
    """p(x, z) / p(z | x) = p(x) whatever z is: no variance, no Monte Carlo error."""
    batch = data(EXACT)
    i = run(variables(EXACT), batch, KEY, 50)
    want = np.broadcast_to(log_evidence(EXACT, batch["x"]), (50, BATCH))
    np.testing.assert_allclose(i.log_w, want, atol=ROUNDING)
    np.testing.assert_allclose(gap(EXACT, batch["x"]), 0, atol=1e-12)


def test_elbo_at_the_exact_posterior_is_the_evidence():
    batch = data(EXACT)
    i = run(variables(EXACT), batch, KEY, 20_000)
    assert_mean(i.log_px - i.kl, log_evidence(EXACT, batch["x"]), ROUNDING)


def test_elbo_falls_short_by_the_divergence_from_the_posterior():
    """log p(x) - ELBO = KL(q || p(z | x)), for every x."""
    batch = data(WRONG)
    i = run(variables(WRONG), batch, KEY, 20_000)
    want = log_evidence(WRONG, batch["x"]) - gap(WRONG, batch["x"])
    assert gap(WRONG, batch["x"]).min() > 0.1  # else nothing is tested
    assert_mean(i.log_px - i.kl, want, ROUNDING)
    assert_mean(i.log_w, want, ROUNDING)


def test_terms_are_the_densities_of_the_draws():
    batch = data(WRONG)
    i = run(variables(WRONG), batch, KEY, 3)
    x, z = np.asarray(batch["x"], float), np.asarray(i.z, float)
    mean, s = (x - WRONG["b"]) @ WRONG["A"].T, np.exp(WRONG["log_s"])
    norm, sigma = scipy.stats.norm, np.exp(WRONG["log_sigma"])
    log_px = norm(z @ WRONG["W"].T + WRONG["b"], sigma).logpdf(x).sum(-1)
    np.testing.assert_allclose(i.log_px, log_px, atol=ROUNDING)
    np.testing.assert_allclose(i.log_pz, norm.logpdf(z).sum(-1), atol=ROUNDING)
    np.testing.assert_allclose(i.log_qz, norm(mean, s).logpdf(z).sum(-1), atol=ROUNDING)
    np.testing.assert_array_equal(i.log_w, i.log_px + i.log_pz - i.log_qz)


def test_draws_differ_between_samples_and_examples():
    i = run(variables(WRONG), data(WRONG), KEY, 3)
    assert len(np.unique(i.z)) == i.z.size


def test_analytic_divergence_is_the_expectation_of_the_sampled_one():
    """KL(q || p) = E_q[log q - log p], per latent; analytic: equal for all samples."""
    batch = data(WRONG)
    i = run(variables(WRONG), batch, KEY, 20_000)
    np.testing.assert_array_equal(i.kl_parts[0], i.kl_parts[-1])
    assert i.kl_parts.shape == i.z.shape
    assert np.asarray(i.kl_parts).min() >= 0
    assert_mean(i.log_qz - i.log_pz, np.asarray(i.kl[0]), ROUNDING)


def test_without_a_closed_form_the_divergence_is_that_of_the_draws():
    model = LinearGaussian(laplace=True)
    i = apply(infer, model)(variables(WRONG), data(WRONG), KEY, 3)
    np.testing.assert_allclose(i.kl, i.log_qz - i.log_pz, atol=ROUNDING)


class TestObserved:
    """Unobserved entries are zeroed in x and marked 0 in the mask."""

    x = jnp.asarray(np.random.default_rng(0).uniform(0.1, 0.9, (1, 4, 6)), jnp.float32)
    mask = jnp.asarray(np.random.default_rng(1).integers(0, 2, (1, 4, 6)))

    def test_sums_what_is_observed_and_nothing_else(self):
        px = d.Normal(jnp.full((2, 4, 6), 0.4), 0.7)
        terms = np.asarray(px.log_prob(self.x))
        got = observed_log_prob(px, self.x, self.mask)
        np.testing.assert_allclose(got, (terms * self.mask).sum(-1), rtol=10 * EPS)
        nothing, all_ = jnp.zeros_like(self.mask), jnp.ones_like(self.mask)
        assert (observed_log_prob(px, self.x, nothing) == 0).all()
        np.testing.assert_array_equal(
            observed_log_prob(px, self.x, all_), observed_log_prob(px, self.x)
        )

    def test_images_are_summed_over_all_their_axes(self):
        px = d.Normal(jnp.zeros((2, 4, 3, 2, 1)), 1.0)
        x = jnp.ones((1, 4, 3, 2, 1))
        want = np.full((2, 4), 6 * scipy.stats.norm.logpdf(1))
        np.testing.assert_allclose(observed_log_prob(px, x), want, rtol=10 * EPS)

    @pytest.mark.parametrize("name", [*LIKELIHOODS])
    def test_an_unobserved_entry_has_no_gradient(self, name):
        """Neither to its value nor to the network's output for it, and never a NaN."""
        likelihood = LIKELIHOODS[name]()
        shape = (2, 4, 2, 3, 1)
        x = jnp.where(self.mask == 1, self.x, 0.0).reshape(1, *shape[1:])
        mask = self.mask.reshape(x.shape)
        width = likelihood.outputs(1)
        out = jax.random.normal(KEY, (*shape[:-1], width))
        batch = {"x": x[0], "mask": mask[0]}

        @jax.jit
        @jax.grad
        def gradient(arguments):
            out, x = arguments
            px, _ = likelihood.init_with_output(KEY, out, batch)
            return observed_log_prob(px, x, mask).sum()

        to_out, to_x = gradient((out, x))
        observed = np.broadcast_to(np.asarray(mask == 1), to_out.shape)
        assert (np.asarray(to_x)[np.asarray(mask) == 0] == 0).all()
        assert (np.asarray(to_out)[~observed] == 0).all()
        assert np.isfinite(to_out).all() and np.isfinite(to_x).all()
        assert (np.abs(np.asarray(to_out)).sum(-1)[observed[..., 0]] > 0).all()

    def test_a_pixel_of_a_mixture_counts_where_all_its_channels_are_observed(self):
        likelihood = LIKELIHOODS["logistic_mixture"]()
        x = jnp.asarray(np.random.default_rng(2).integers(0, 256, (1, 2, 3)) / 255)
        batch = {"x": x.reshape(1, 2, 1, 3).astype(jnp.float32)}
        out = jax.random.normal(KEY, (2, 1, 2, 1, likelihood.outputs(3)))
        px = likelihood.apply({}, out, batch)
        mask = jnp.array([[1, 1, 1], [1, 0, 1]]).reshape(1, 1, 2, 1, 3)
        got = jax.jit(observed_log_prob)(px, batch["x"][None], mask)
        want = jax.jit(px.log_prob)(batch["x"][None])[:, :, 0, 0]
        np.testing.assert_allclose(got, want, rtol=10 * EPS)


def image_decoder(likelihood: str, norm: str):
    """A VAE of 6 x 5 images, of which only the decoder is used."""
    like = LIKELIHOODS[likelihood]()
    shape = (6, 5, like.outputs(1))
    return VAE(
        encoder=StandardNormal(2),
        decoder=Decoder(
            net.ConvDecoder(shape, channels=(6,), hidden=8, norm=norm), like
        ),
        prior=StandardNormal(2),
    )


@pytest.mark.parametrize(
    ("likelihood", "norm"),
    [
        ("gaussian_optimal", "batch"),
        ("logistic_mixture", "none"),
        ("bernoulli", "group"),
    ],
)
def test_a_model_of_many_samples_is_a_loop_over_them(likelihood, norm):
    """Each sample is as if it were alone, each example as if the others were others."""
    model = image_decoder(likelihood, norm)
    x = np.random.default_rng(0).integers(0, 256, (3, 6, 5, 1)) / 255
    batch = {"x": jnp.asarray(x, jnp.float32)}
    z = jax.random.normal(KEY, (4, 3, 2))
    state = jax.jit(partial(model.init, method="likelihood"))(KEY, z, batch)

    @jax.jit
    def log_px(z, batch):
        px = model.apply(state, z, batch, method="likelihood")
        return observed_log_prob(px, batch["x"][None])

    at_once = log_px(z, batch)
    assert at_once.shape == (4, 3)
    rounding = 30 * 5 * 4 * EPS  # a sum over 30 pixels, of about 5 nats for each
    for s in range(4):
        alone = log_px(z[s : s + 1], batch)[0]
        np.testing.assert_allclose(at_once[s], alone, atol=rounding)
    others = {"x": batch["x"].at[1:].set(0.0)}
    example = log_px(z.at[:, 1:].set(3.0), others)[:, 0]
    np.testing.assert_allclose(at_once[:, 0], example, atol=rounding)
