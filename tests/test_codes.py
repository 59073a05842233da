"""Bottlenecks of codes: against definitions, enumeration, NumPy and Lloyd's step."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaejax.distributions.codes import Quantized, UniformCodes, straight_through
from vaejax.nn import codebooks as cb
from vaejax.nn import finite
from vaejax.nn.finite import Grid, Signs, groups_of
from vaejax.nn.whitening import whitening

KEY = jax.random.key(3)
EPS = np.finfo(np.float32).eps
POINTS = jax.random.normal(jax.random.key(0), (60, 3))
BOOK = jax.random.normal(jax.random.key(1), (7, 3))


def test_straight_through_is_its_values_with_the_gradient_of_its_inputs():
    values, back = jax.vjp(straight_through, POINTS, jnp.round(POINTS))
    np.testing.assert_array_equal(values, jnp.round(POINTS))
    weights = jnp.cos(POINTS)
    of_inputs, of_values = back(weights)
    np.testing.assert_array_equal(of_inputs, weights)
    np.testing.assert_array_equal(of_values, 0 * weights)
    # The definition, whose value is the same up to the rounding of two sums.
    values, back = jax.vjp(
        lambda x, v: x + jax.lax.stop_gradient(v - x), POINTS, jnp.round(POINTS)
    )
    np.testing.assert_allclose(values, jnp.round(POINTS), atol=8 * EPS)
    np.testing.assert_array_equal(back(weights)[0], of_inputs)


def brute_force(points, book):
    return np.square(points[:, None] - book[None]).sum(-1, dtype=np.float64).argmin(-1)


def test_nearest_codes_are_those_of_all_distances():
    wanted = brute_force(np.float64(POINTS), np.float64(BOOK))
    np.testing.assert_array_equal(cb.nearest_codes(POINTS, BOOK), wanted)
    assert len(set(wanted)) > 4


def test_a_lloyd_step_is_the_means_of_the_nearest_points():
    far = jnp.concatenate([BOOK, 100 + BOOK[:1]])  # which is near to none
    codes = brute_force(np.float64(POINTS), np.float64(far))
    found = np.asarray(cb.lloyd_step(POINTS, far))
    for code, old in enumerate(np.asarray(far)):
        mine = np.float64(POINTS)[codes == code]
        wanted = mine.mean(0) if len(mine) else old
        np.testing.assert_allclose(found[code], wanted, atol=60 * EPS)
    np.testing.assert_array_equal(found[-1], far[-1])


def test_whitened_points_have_mean_zero_and_covariance_one():
    mixed = jnp.asarray([[1.0, 2, 0], [0, 0.5, 0], [3, 0, 5]])
    points = POINTS @ mixed + 7.0
    kernel, bias = whitening(points)
    white = np.float64(points) @ np.float64(kernel) + np.float64(bias)
    # Variances have a ratio of 1.3e3: the least of them has an error of some 1e3 EPS.
    np.testing.assert_allclose(white.mean(0), 0, atol=2e-3)
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(3), atol=2e-3)
    np.testing.assert_allclose(kernel, kernel.T, rtol=1e-4)


def test_directions_without_variance_stay_as_they_are():
    flat = POINTS.at[:, 2].set(4.0)
    kernel, bias = whitening(flat)
    np.testing.assert_allclose(kernel[2], [0, 0, 1], atol=8 * EPS)
    np.testing.assert_allclose(flat @ kernel[:, 2] + bias[2], 0, atol=50 * EPS)
    np.testing.assert_array_equal(whitening(0 * flat)[0], jnp.eye(3))


def test_k_means_finds_clusters_that_are_far_apart():
    means = jnp.asarray([[9.0, 0, 0], [0, 9, 0], [0, 0, 9], [9, 9, 9]])
    points = jnp.repeat(means, 30, 0) + 0.1 * jax.random.normal(KEY, (120, 3))
    # Most points are one: codes that are drawn at random are nearly all there.
    points = jnp.concatenate([points, jnp.zeros((2000, 3))])
    keys = jax.random.split(KEY, 8)
    found = jax.jit(jax.vmap(lambda key: cb.k_means(points, 5, key)))(keys)
    means = jnp.concatenate([means, jnp.zeros((1, 3))])
    away = np.abs(found[:, :, None] - means[None, None]).max(-1).min(1).max(-1)
    # Means of 30 have a standard error of .02. Lloyd's algorithm may end elsewhere, and
    # does where two codes move to one cluster.
    assert away.min() < 0.1


def test_far_places_are_drawn_by_squared_distance():
    points = jnp.asarray([[0.0, 0], [1, 0], [0, 2], [0, 0]])
    places = cb.far_places(points, jnp.zeros_like(points), 4000, KEY)
    counts = np.bincount(places, minlength=4)
    assert counts[0] == counts[3] == 0
    # 4 of 5 are the third's, with a standard deviation of 25.
    assert abs(counts[2] - 3200) < 5 * 25.3


def test_usage_and_perplexity_of_known_frequencies():
    size = 6
    uniform = jnp.tile(jnp.arange(size), 4).reshape(4, 2, 3, 1)
    counts = cb.count_codes(uniform, size)
    np.testing.assert_array_equal(counts, np.full((1, size), 4))
    assert cb.share_used(counts) == 1
    assert abs(jnp.exp(cb.code_entropy(counts)) - size) < 20 * EPS * size
    one = jnp.zeros((4, 2, 3, 1), jnp.int32)
    assert cb.share_used(cb.count_codes(one, size)) == np.float32(1 / size)
    assert cb.code_entropy(cb.count_codes(one, size)) == 0
    # Two levels, and examples of weight 0: the second level uses half of its codes.
    two = jnp.concatenate([uniform, uniform % 3], -1)
    weight = jnp.asarray([1.0, 1, 0, 0])
    counts = cb.count_codes(two, size, weight)
    np.testing.assert_array_equal(counts, [[2] * 6, [4] * 3 + [0] * 3])
    assert cb.share_used(counts) == 0.75
    wanted = (math.log(6) + math.log(3)) / 2
    assert abs(cb.code_entropy(counts) - wanted) < 20 * EPS


@pytest.mark.parametrize("levels", [(8, 6, 5), (2, 3), (4,), (5, 2, 7)])
def test_finite_scalars_enumerate_their_codes(levels):
    grid = Grid(levels)
    assert grid.size == math.prod(levels)
    codes = jnp.arange(grid.size)[:, None]
    values = grid(codes)
    # The lowest digit is the first channel's; each value once.
    each = [(np.arange(n) - n // 2) / (n // 2) for n in levels]
    wanted = np.asarray(list(itertools.product(*reversed(each))))[:, ::-1]
    np.testing.assert_allclose(values, wanted, atol=EPS)
    np.testing.assert_array_equal(grid.codes(values), codes)
    np.testing.assert_array_equal(grid.rounded(values), values)


@pytest.mark.parametrize("levels", [(8, 6, 5), (2, 3)])
def test_every_code_of_finite_scalars_is_reached_and_no_other(levels):
    grid = Grid(levels)
    line = jnp.linspace(-9, 9, 301)
    bounded = grid.bounded(jnp.repeat(line[:, None], len(levels), 1))
    for channel, count in enumerate(levels):
        found = np.unique(np.asarray(grid.rounded(bounded))[:, channel])
        np.testing.assert_allclose(
            found, (np.arange(count) - count // 2) / (count // 2), atol=EPS
        )
    corners = jnp.asarray(list(itertools.product(*[(-50.0, 50.0)] * len(levels))))
    codes = np.asarray(grid.codes(grid.rounded(grid.bounded(corners))))
    assert codes.min() == 0 and codes.max() == grid.size - 1


def test_signs_are_the_bits_of_their_codes():
    signs = Signs(5)
    codes = jnp.arange(32)[:, None]
    values = signs(codes)
    assert len(np.unique(values, axis=0)) == 32 and set(np.unique(values)) == {-1, 1}
    np.testing.assert_array_equal(signs.codes(values), codes)
    np.testing.assert_array_equal(signs.rounded(0.3 * values), values)
    assert int(signs.codes(jnp.asarray([[1.0, -1, -1, 1, -1]]))[0, 0]) == 1 + 8


def by_distances(h, book, softness):
    """The soft choice among the rows of a book, by its definition."""
    square = np.square(np.float64(h)[:, None] - book[None]).sum(-1)
    wanted = np.exp(-square / softness)
    return wanted / wanted.sum(-1, keepdims=True)


def test_a_soft_choice_of_signs_is_that_of_their_distances():
    signs = Signs(3)
    book = np.float64(signs(jnp.arange(8)[:, None]))
    found = jax.nn.softmax(signs.logits(POINTS[:9], 0.7))[:, 0]
    wanted = by_distances(POINTS[:9], book, 0.7)
    np.testing.assert_allclose(found, wanted, atol=100 * EPS)


def test_a_soft_choice_of_finite_scalars_counts_in_steps():
    grid = Grid((4, 3, 2))
    bounded = grid.bounded(POINTS[:9])
    steps = np.asarray([2, 1, 1])
    book = np.float64(grid(jnp.arange(24)[:, None])) * steps
    found = jax.nn.softmax(grid.logits(bounded, 0.7))[:, 0]
    wanted = by_distances(np.float64(bounded) * steps, book, 0.7)
    np.testing.assert_allclose(found, wanted, atol=100 * EPS)


def test_groups_choose_apart_where_codes_are_many(monkeypatch):
    """A group has the choice of a grid of its channels; what it lacks has no mass."""
    monkeypatch.setattr(finite, "MOST_TOGETHER", 12)
    grid = Grid((4, 3, 2))
    bounded = grid.bounded(POINTS[:9])
    found = jax.nn.softmax(grid.logits(bounded, 0.7))
    assert found.shape == (9, 2, 6)
    parts = (Grid((4,)), bounded[:, :1]), (Grid((3, 2)), bounded[:, 1:])
    for row, (part, channels) in enumerate(parts):
        wanted = jax.nn.softmax(part.logits(channels, 0.7))[:, 0]
        np.testing.assert_allclose(found[:, row, : part.size], wanted, atol=4 * EPS)
        assert not found[:, row, part.size :].any()


@pytest.mark.parametrize(
    "levels, groups",
    [
        ((4,) * 5, [(4,) * 5]),
        ((2,) * 13, [(2,) * 7, (2,) * 6]),
        ((2,) * 18, [(2,) * 9] * 2),
        ((8, 8, 8, 6, 5), [(8, 8), (8, 6, 5)]),
        ((5000, 2), [(5000,), (2,)]),
    ],
)
def test_groups_are_few_and_alike(levels, groups):
    assert groups_of(levels) == groups


def test_a_map_of_codes_is_certain_and_the_prior_uniform():
    grid = Grid((3, 5))
    look_up = jax.tree_util.Partial(grid)
    p = UniformCodes(look_up, grid.size, (4, 2, 3, 1))
    assert (p.batch_shape, p.event_shape) == ((4,), (2, 3, 2))
    z = p.sample(KEY, (5,))
    assert z.shape == (5, 4, 2, 3, 2)
    np.testing.assert_allclose(p.log_prob(z), -6 * math.log(15), rtol=4 * EPS)
    counts = cb.count_codes(p.sample_codes(KEY, (200,)), grid.size)[0]
    # 4800 draws of 15 codes: 320 each, five standard deviations of 17 around.
    assert np.abs(np.asarray(counts) - 320).max() < 5 * 17.3
    codes = grid.codes(z[0])
    q = Quantized(z[0] + 0.01, z[0][..., None, :], codes)
    np.testing.assert_array_equal(q.sample(KEY), z[0])
    np.testing.assert_array_equal(q.log_prob(z), np.zeros((5, 4)))
    np.testing.assert_array_equal(jax.jit(lambda: q)().values, z[0])
