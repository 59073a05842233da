"""The Poincare ball against closed forms, and its wrapped normal by quadrature."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaejax.distributions import draw_with_log_prob
from vaejax.distributions import hyperbolic as h

C = 0.7
RNG = np.random.default_rng(0)


def points(count, axes=3, most=0.95):
    """Points of the ball, up to a share of its radius."""
    x = RNG.normal(size=(count, axes))
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    return jnp.float32(x * RNG.uniform(0, most, (count, 1)) / np.sqrt(C))


X, Y = points(20), points(20)
conformal, exp_map, log_map, distance, planes = (
    jax.jit(partial(function, c=C))
    for function in (
        h.conformal,
        h.exp_map,
        h.log_map,
        h.poincare_distance,
        h.hyperplane_distance,
    )
)


def closed_form(x, y, c=C):
    """arcosh(1 + 2 c |x - y|^2 / ((1 - c |x|^2)(1 - c |y|^2))) / sqrt(c), float64."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    square = ((x - y) ** 2).sum(-1)
    rest = (1 - c * (x**2).sum(-1)) * (1 - c * (y**2).sum(-1))
    return np.arccosh(1 + 2 * c * square / rest) / np.sqrt(c)


def test_distances_are_the_closed_form():
    found = distance(X, Y)
    np.testing.assert_allclose(found, closed_form(X, Y), rtol=1e-4)
    radius = np.linalg.norm(np.asarray(X, float), axis=-1)
    center = distance(X, jnp.zeros_like(X))
    want = 2 / np.sqrt(C) * np.arctanh(np.sqrt(C) * radius)
    np.testing.assert_allclose(center, want, rtol=1e-4)


def test_distances_are_twice_those_of_coordinates_where_space_is_flat():
    """lambda(0) = 2: c -> 0 gives 2 |x - y|."""
    found = h.poincare_distance(X, Y, 1e-6)
    np.testing.assert_allclose(found, 2 * np.linalg.norm(X - Y, axis=-1), rtol=1e-4)


def test_exponential_and_logarithm_are_inverse():
    there = jax.jit(lambda x, y: exp_map(x, log_map(x, y)))(X, Y)
    np.testing.assert_allclose(there, Y, atol=1e-5)
    tangent = jnp.float32(RNG.normal(size=X.shape)) / conformal(X)
    back = jax.jit(lambda x, v: log_map(x, exp_map(x, v)))(X, tangent)
    np.testing.assert_allclose(back, tangent, rtol=1e-3, atol=1e-4)


def test_geodesics_are_as_long_as_their_tangents():
    """d(x, exp_x(v)) = lambda(x) |v|."""
    tangent = jnp.float32(RNG.normal(size=X.shape)) / conformal(X)
    end = exp_map(X, tangent)
    want = (conformal(X) * h.length(tangent))[:, 0]
    np.testing.assert_allclose(closed_form(X, end), want, rtol=1e-3)


def test_distances_to_hyperplanes_are_the_least_to_their_points():
    """In two dimensions a hyperplane is the geodesic through p orthogonal to a."""
    x, p = points(4, 2), points(1, 2)
    normal = jnp.float32([[0.8, -0.6]])
    found = planes(x, p, normal)[:, 0]
    steps = jnp.linspace(-4, 4, 4001)[:, None] * jnp.float32([[0.6, 0.8]])
    plane = exp_map(jnp.broadcast_to(p, steps.shape), steps)
    least = closed_form(x[:, None], plane[None]).min(1)
    np.testing.assert_allclose(abs(found), least, rtol=1e-3, atol=1e-3)
    sides = np.sign((log_map(jnp.broadcast_to(p, x.shape), x) * normal).sum(-1))
    np.testing.assert_array_equal(np.sign(found), sides)


def wrapped(scale=(0.6, 1.1)):
    return h.WrappedNormal(jnp.float32([[0.5, -0.3]]), jnp.float32([scale]), C)


def test_the_density_integrates_to_one():
    """In polar coordinates of the disk, by the distance from the center."""
    nodes, parts = np.polynomial.legendre.leggauss(200)
    far, weights = 5 * (nodes + 1), 5 * parts  # nearly all is nearer than 10
    radius = np.tanh(np.sqrt(C) * far / 2) / np.sqrt(C)
    slope = (1 - C * radius**2) / 2
    angles = np.linspace(0, 2 * np.pi, 201)[:-1]
    grid = radius[:, None, None] * np.stack([np.cos(angles), np.sin(angles)], -1)[None]
    log_p = jax.jit(wrapped().log_prob)(jnp.float32(grid.reshape(-1, 1, 2)))
    density = np.exp(np.asarray(log_p, float)).reshape(200, 200)
    total = (weights * slope * radius) @ density.mean(1) * 2 * np.pi
    assert total == pytest.approx(1, abs=2e-3)


def test_the_density_of_a_draw_is_that_of_its_point():
    q, key = wrapped((0.2, 0.5)), jax.random.key(0)
    z, log_q = jax.jit(lambda q: draw_with_log_prob(q, key))(q)
    np.testing.assert_allclose(log_q, q.log_prob(z), rtol=1e-4)


def test_draws_are_as_far_away_as_their_tangents():
    """The mean squared distance to mu is the sum of s^2, within 5 errors."""
    draws = jax.jit(lambda q: q.sample(jax.random.key(1), (20_000,)))(wrapped())
    far = closed_form(draws[:, 0], np.array([0.5, -0.3])) ** 2
    error = far.std() / np.sqrt(len(far))
    assert abs(far.mean() - (0.6**2 + 1.1**2)) < 5 * error


def test_the_log_of_the_shrinking_is_smooth_where_its_formula_changes():
    d = jnp.float32([1e-8, 0.01, 0.0499, 0.0501, 1.0, 30.0])
    x = np.asarray(d, float)
    want = np.log(x / np.sinh(x))
    np.testing.assert_allclose(h.log_shrink(d), want, atol=2e-6)
    slopes = jax.vmap(jax.grad(h.log_shrink))(d)
    assert np.isfinite(slopes).all()
