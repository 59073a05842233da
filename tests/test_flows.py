"""Flows, correlated Gaussians and categorical latents against autodiff and SciPy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats

from vaejax.distributions import draw_with_log_prob, kl_divergence
from vaejax.distributions.categories import Categories
from vaejax.distributions.flow import Flow, inverse_of, jacobian_of
from vaejax.models import flow_priors, posteriors, priors

from .noise import scattered

KEY = jax.random.key(3)
EPS = np.finfo(np.float32).eps
ROWS, LATENTS, FEATURES = 4, 3, 5
H = jax.random.normal(jax.random.key(0), (ROWS, FEATURES))
Z = jax.random.normal(jax.random.key(1), (ROWS, LATENTS))
ROUNDING = 2000 * EPS
"""Sums of some ten terms of size one, through an inverse and a linear solve."""


def maps_of(module, argument):
    """The maps of a head or a prior, at scattered parameters."""
    variables = jax.jit(module.init)(KEY, argument)
    return module.apply(scattered(variables, 0.7, KEY), argument)


MAPS = {
    "planar": posteriors.PlanarMaps(LATENTS, 2),
    "householder": posteriors.HouseholderMaps(LATENTS, 2),
    "sylvester": posteriors.SylvesterMaps(LATENTS, 2, 2),
    "square sylvester": posteriors.SylvesterMaps(LATENTS, 1, LATENTS),
    "iaf": posteriors.InverseAutoregressiveMaps(LATENTS, 2, (8,)),
    "deep iaf": posteriors.InverseAutoregressiveMaps(LATENTS, 1, (8, 8)),
}
FLOW_PRIORS = {
    "realnvp": flow_priors.CouplingPrior,
    "maf": flow_priors.AutoregressivePrior,
}


@pytest.fixture(scope="module")
def maps():
    found = {name: maps_of(module, H) for name, module in MAPS.items()}
    for name, kind in FLOW_PRIORS.items():
        found[name] = maps_of(kind(LATENTS, 2, 8), {"x": H}).maps
    return found


@pytest.mark.parametrize("name", [*MAPS, *FLOW_PRIORS])
def test_log_determinants_are_those_of_the_jacobian(maps, name):
    for each in maps[name]:
        y, log_det = each.forward(Z)
        sign, want = jnp.linalg.slogdet(jacobian_of(each, Z))
        np.testing.assert_allclose(log_det, want, atol=ROUNDING)
        assert (jnp.abs(sign) == 1).all()
        assert y.shape == Z.shape


@pytest.mark.parametrize("name", [*MAPS, *FLOW_PRIORS])
def test_inverses_invert(maps, name):
    for each in maps[name]:
        y, log_det = each.forward(Z)
        z, again = inverse_of(each, y)
        # Errors of y grow by the inverse's slope, at most the condition of the map.
        worst = float(jnp.linalg.cond(jacobian_of(each, Z)).max())
        np.testing.assert_allclose(z, Z, atol=20 * EPS * worst + 20 * EPS)
        np.testing.assert_allclose(again, log_det, atol=40 * EPS * worst + ROUNDING)


@pytest.mark.parametrize("name", ["planar", "sylvester", "iaf", "maf"])
def test_the_density_of_a_value_has_exact_slopes(maps, name):
    """In the value and in all parameters, by central differences."""
    each = maps[name][0]
    q = Flow(flow_priors.standard(ROWS, LATENTS), (each,))
    y, _ = each.forward(Z)
    direction = scattered((y, each), 1.0, KEY)

    def along(t):
        moved = jax.tree.map(lambda a, b: a + t * b, (y, each), direction)
        return Flow(q.base, (moved[1],)).log_prob(moved[0]).sum()

    slope = float(jax.grad(along)(0.0))
    with jax.enable_x64(True):
        y, each, direction = jax.tree.map(
            lambda a: jnp.asarray(np.asarray(a, np.float64)), (y, each, direction)
        )
        step = 1e-5
        want = (along(step) - along(-step)) / (2 * step)
    # The differences err by step^2; the slope by float32's rounding of its terms.
    assert slope == pytest.approx(float(want), rel=1e-3)


def test_the_made_is_autoregressive(maps):
    """m and g of a latent depend on those before it, and on no other."""
    network = maps["deep iaf"][0].network
    slopes = jax.jacobian(lambda z: network(z[None])[0])(Z[0])
    for part in np.split(np.asarray(slopes), 2):
        np.testing.assert_array_equal(np.triu(part), 0)
        assert (part[np.tril_indices(LATENTS, -1)] != 0).all()


@pytest.mark.parametrize("name", MAPS)
def test_drawn_and_given_densities_agree(maps, name):
    q = Flow(flow_priors.standard(ROWS, LATENTS), maps[name])
    z, log_q = draw_with_log_prob(q, KEY)
    np.testing.assert_allclose(log_q, q.log_prob(z), atol=20 * ROUNDING)


def test_the_mean_is_exact_where_maps_are_affine(maps):
    base = dist.Independent(dist.Normal(Z, jnp.exp(Z)), 1)
    want = Z
    for each in maps["householder"]:
        want, _ = each.forward(want)
    np.testing.assert_allclose(Flow(base, maps["householder"]).mean, want, atol=1e-5)


PLANE = 2


def priors_in_the_plane():
    batch = {"x": jnp.zeros((1, 6))}
    encoder = FullEncoder()
    found = {
        "mixture": priors.MixturePrior(PLANE, 3),
        "vamp": priors.VampPrior(encoder, 3, unit=False),
        "realnvp": flow_priors.CouplingPrior(PLANE, 3, 4),
        "maf": flow_priors.AutoregressivePrior(PLANE, 3, 4),
    }
    return {
        name: module.apply(scattered(jax.jit(module.init)(KEY, batch), 0.4, KEY), batch)
        for name, module in found.items()
    }


class FullEncoder(nn.Module):
    """A full covariance of inputs that are their own features."""

    @nn.compact
    def __call__(self, batch):
        return posteriors.FullHead(PLANE)(batch["x"])


@pytest.mark.parametrize("name", ["mixture", "vamp", "realnvp", "maf"])
def test_densities_integrate_to_one(name):
    """Over a square that holds all but 1e-4 of the mass, by the rectangle rule."""
    p = priors_in_the_plane()[name]
    side = jnp.linspace(-12, 12, 481)
    grid = jnp.stack(jnp.meshgrid(side, side), -1).reshape(-1, 1, PLANE)
    density = jnp.exp(jax.jit(jax.vmap(p.log_prob))(grid))
    assert float(density.sum() * (side[1] - side[0]) ** 2) == pytest.approx(1, abs=2e-3)


def test_a_vamp_prior_of_full_covariances_is_their_mixture():
    p = priors_in_the_plane()["vamp"]
    each = p.component_distribution
    loc, factor = np.asarray(each.loc[0]), np.asarray(each.scale_tril[0])
    assert loc.shape == (3, PLANE)
    z = np.array([[0.3, -1.1]], np.float32)
    want = np.mean(
        [
            scipy.stats.multivariate_normal(m, f @ f.T).pdf(z[0])
            for m, f in zip(loc, factor, strict=True)
        ]
    )
    np.testing.assert_allclose(np.exp(p.log_prob(z)), want, rtol=1e-4)


@pytest.mark.parametrize(
    "head", [posteriors.FullHead(LATENTS), posteriors.LowRankHead(LATENTS, 2)]
)
def test_correlated_gaussians(head):
    """Log densities and the KL to independent normals by SciPy and NumPy, float64."""
    q = head.apply(scattered(jax.jit(head.init)(KEY, H), 0.5, KEY), H)
    width = jnp.exp(0.3 * Z)
    kl = kl_divergence(q, dist.Normal(Z, width))
    covariance = np.asarray(q.covariance_matrix, np.float64)
    for row in range(ROWS):
        normal = scipy.stats.multivariate_normal(q.loc[row], covariance[row])
        got = q.log_prob(Z)[row]
        np.testing.assert_allclose(got, normal.logpdf(Z[row]), rtol=1e-4, atol=1e-4)
        wide = np.diag(np.square(np.asarray(width[row], np.float64)))
        inner = np.linalg.solve(wide, covariance[row])
        shift = np.asarray(q.loc[row] - Z[row], np.float64)
        want = np.trace(inner) + shift @ np.linalg.solve(wide, shift) - LATENTS
        want = 0.5 * (want - np.linalg.slogdet(inner)[1])
        np.testing.assert_allclose(kl[row], want, rtol=1e-4, atol=1e-4)


def test_categories():
    """Frequencies, log probabilities, entropies, and the slopes of the relaxation."""
    q = Categories(jnp.log(jnp.array([[[0.7, 0.2, 0.1], [0.2, 0.2, 0.6]]])), 0.5)
    uniform = Categories(jnp.zeros((1, 2, 3)))
    z = jax.vmap(q.sample)(jax.random.split(KEY, 20_000))[:, 0]
    assert set(np.unique(z)) == {0.0, 1.0}
    share = np.asarray(q.mean[0])
    error = np.sqrt(share * (1 - share) / len(z))
    assert (np.abs(np.asarray(z.mean(0)) - share) < 5 * error).all()
    log_prob = q.log_prob(jnp.array([[1.0, 0, 0, 0, 0, 1]]))
    np.testing.assert_allclose(np.exp(log_prob), 0.42, rtol=1e-5)
    entropy = -(share * np.log(share)).sum()
    want = 2 * np.log(3) - entropy
    np.testing.assert_allclose(kl_divergence(q, uniform), want, rtol=1e-5)

    def drawn(logits):
        return Categories(logits, 0.5).straight_through(KEY)

    def relaxed(logits):
        noisy = jax.nn.log_softmax(logits) + jax.random.gumbel(KEY, logits.shape)
        return jax.nn.softmax(noisy / 0.5).reshape(1, 6)

    got, want = (jax.jacobian(f)(q.logits) for f in (drawn, relaxed))
    np.testing.assert_allclose(got, want, atol=20 * EPS)
    np.testing.assert_allclose(drawn(q.logits), np.round(drawn(q.logits)), atol=2 * EPS)
