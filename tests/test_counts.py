"""Counts: densities against SciPy in float64, and tables evaluated by groups."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import digamma, gammaln

import vaejax
from vaejax import InputError, parallel, presets
from vaejax.data import from_arrays, open_dataset
from vaejax.data.feed import resident_feed
from vaejax.data.spec import Column
from vaejax.distributions import expectation
from vaejax.distributions.columns import decide, features
from vaejax.distributions.counts import NegativeBinomial, Poisson
from vaejax.models.columns import TableLikelihood
from vaejax.models.counts import NegativeBinomialCounts, OfLibrary, PoissonCounts
from vaejax.models.likelihoods import Gaussian
from vaejax.presets.rates import for_counts
from vaejax.training.loop import first_state

EPS = float(np.finfo(np.float32).eps)
RATES = np.array([-12.0, -3, -0.5, 0, 0.7, 2, 4.6, 8, 11.5, 14])
COUNTS = np.array([0.0, 1, 2, 5, 9, 10, 11, 30, 100, 2345, 99_999, 1_000_000])


def grid(*axes):
    """Every combination, as float32 arrays whose values float64 has exactly."""
    return [a.ravel().astype(np.float32) for a in np.meshgrid(*axes, indexing="ij")]


def slack(x, log_mean, exact):
    """The error that rounding log mu, and each term, to float32 may make."""
    moved = np.abs(x - np.exp(log_mean)) * np.maximum(np.abs(log_mean), 1)
    return 8 * EPS * (moved + np.abs(exact) + 16)


def test_poisson_is_scipys_also_where_counts_are_large():
    x, log_mean = grid(COUNTS, RATES)
    found = np.asarray(Poisson(jnp.asarray(log_mean)).log_prob(jnp.asarray(x)))
    wide = log_mean.astype(np.float64)
    exact = stats.poisson(np.exp(wide)).logpmf(x)
    assert (np.abs(found - exact) <= slack(x, wide, exact)).all()


def test_the_negative_binomial_is_the_closed_form_over_the_whole_range():
    x, log_mean, log_theta = grid(COUNTS, RATES, [-7.0, -2, 0, 1, 2.2, 2.4, 6, 12, 18])
    px = NegativeBinomial(jnp.asarray(log_mean), jnp.asarray(log_theta))
    found = np.asarray(px.log_prob(jnp.asarray(x)))
    x, log_mean, log_theta = (a.astype(float) for a in (x, log_mean, log_theta))
    theta, mean = np.exp(log_theta), np.exp(log_mean)
    exact = gammaln(x + theta) - gammaln(theta) - gammaln(x + 1.0)
    exact += x * (log_mean - np.log(theta + mean)) - theta * np.log1p(mean / theta)
    # float64 itself rounds the difference of log-gammas, at theta of e^18.
    own = 4 * np.finfo(float).eps * (theta + x) * np.log(theta + x + 2)
    assert (np.abs(found - exact) <= slack(x, log_mean, exact) + own).all()
    few = theta < 1000  # beyond, SciPy's 1 - p is rounded
    scipys = stats.nbinom(theta, theta / (theta + mean)).logpmf(x)
    np.testing.assert_allclose(scipys[few], exact[few], rtol=1e-6, atol=1e-6)


def test_gradients_are_those_of_the_closed_form():
    x, log_mean, log_theta = grid(COUNTS, RATES, [-2.0, 0, 2.2, 6])
    args = [jnp.asarray(a) for a in (x, log_mean, log_theta)]

    def total(x, m, t):
        return NegativeBinomial(m, t).log_prob(x).sum()

    by_mean, by_theta = jax.grad(total, (1, 2))(*args)
    x, m, t = (
        x.astype(float),
        np.exp(log_mean.astype(float)),
        np.exp(log_theta.astype(float)),
    )
    exact = (x - m) * t / (t + m)
    size = np.abs(x - m) * (1 + np.abs(log_mean)) + x + m * t / (t + m)
    assert (np.abs(by_mean - exact) <= 16 * EPS * (size + 1)).all()
    ratio = np.log(t) - np.log(t + m)
    exact = t * (digamma(x + t) - digamma(t) + ratio + (m - x) / (t + m))
    size = t * (np.abs(np.log(x + t)) + np.abs(ratio) + np.abs(x - m) / (t + m))
    assert (np.abs(by_theta - exact) <= 32 * EPS * (size + 1)).all()
    by_mean = jax.grad(lambda m: Poisson(m).log_prob(args[0]).sum())(args[1])
    size = np.abs(x - m) * (1 + np.abs(log_mean)) + x + 1
    assert (np.abs(by_mean - (x - m)) <= 16 * EPS * size).all()


def test_beyond_the_bound_densities_stay_and_gradients_lead_back():
    """At e^20 and far above, as a decoder may give where a table is wide."""
    far = jnp.asarray([20.0, 20.5, 300.0, 1e30])
    few, many = jnp.full(4, 7.0), jnp.full(4, 1e9)
    theta = jnp.zeros(4)
    for make, slope in (
        (Poisson, 7 - np.exp(20)),
        (lambda m: NegativeBinomial(m, theta), (7 - np.exp(20)) / (1 + np.exp(20))),
    ):
        px = make(far)
        np.testing.assert_array_equal(px.log_prob(few), px.log_prob(few)[0])
        np.testing.assert_allclose(px.mean, np.exp(20), rtol=20 * EPS)
        by_mean = jax.grad(lambda m, x, make=make: make(m).log_prob(x).sum())
        np.testing.assert_allclose(by_mean(far, few), slope, rtol=21 * EPS)
        # Larger counts pull up to the bound and no further.
        assert (np.sign(by_mean(far, many)) == [1, 0, 0, 0]).all()
    mean = jnp.full(4, np.log(3.0))
    by_theta = jax.grad(lambda t, x: NegativeBinomial(mean, t).log_prob(x).sum())
    back = np.asarray(by_theta(-far, few))
    # As theta falls, log p of a count above 0 does as log theta: its slope is 1.
    np.testing.assert_allclose(back, 1, rtol=1e-6)


def test_draws_have_the_mean_and_variance():
    mean, theta = jnp.full(20_000, np.log(3.0)), jnp.full(20_000, np.log(0.8))
    px = NegativeBinomial(mean, theta)
    draws = np.asarray(px.sample(jax.random.key(0)), float)
    assert float(px.variance[0]) == pytest.approx(3 + 9 / 0.8, rel=1e-5)
    assert abs(draws.mean() - 3) <= 4 * np.sqrt(14.25 / 20_000)
    shares = np.bincount(draws.astype(int), minlength=3)[:3] / 20_000
    exact = stats.nbinom(0.8, 0.8 / 3.8).pmf([0, 1, 2])
    assert (np.abs(shares - exact) <= 4 * np.sqrt(exact / 20_000)).all()


KINDS = {
    "real": (),
    "constant": (),
    "binary": ("n", "y"),
    "count": (),
    "category": ("a", "b", "c"),
    "wide": ("a", "b", "c", "d", "e"),
}


def table(kinds):
    """Columns of these kinds."""
    return tuple(
        Column(str(n), "category" if k == "wide" else k, KINDS[k])
        for n, k in enumerate(kinds)
    )


def by_column(columns, out, x):
    """log p(x) and E[features] of each column, by SciPy, one after the other.

    The decoder's outputs are those of all real columns, then bits, counts, categories.
    """
    where = [
        (n, c)
        for k in ("real", "binary", "count", "category")
        for n, c in enumerate(columns)
        if c.kind == k
    ]
    log_p, means, start = np.zeros(x.shape), {}, 0
    for n, column in where:
        width = len(column.values) if column.kind == "category" else 1
        own = out[:, start : start + width].astype(float)
        start += width
        if column.kind == "real":
            log_p[:, n], means[n] = stats.norm(own[:, 0]).logpdf(x[:, n]), own
        elif column.kind == "binary":
            p = 1 / (1 + np.exp(-own))
            log_p[:, n], means[n] = stats.bernoulli(p[:, 0]).logpmf(x[:, n]), p
        elif column.kind == "count":
            rate = np.exp(own)
            log_p[:, n], means[n] = stats.poisson(rate[:, 0]).logpmf(x[:, n]), rate
        else:
            p = np.exp(own) / np.exp(own).sum(1, keepdims=True)
            log_p[:, n] = np.log(p[np.arange(len(x)), x[:, n].astype(int)])
            means[n] = p
    blank = np.zeros((len(x), 1))
    return log_p, [means.get(n, blank) for n in range(len(columns))]


@settings(max_examples=6, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(sorted(KINDS)), min_size=2, max_size=7), st.integers(0))
def test_columns_in_groups_are_columns_one_by_one(kinds, seed):
    rng = np.random.default_rng(seed % 2**32)
    columns = table(kinds)
    tops = [len(c.values) or 6 for c in columns]
    x = rng.integers(0, tops, (4, len(columns))).astype(np.float32)
    likelihood = TableLikelihood(columns, Gaussian())
    out = rng.normal(size=(4, likelihood.outputs(len(columns)))).astype(np.float32)
    batch = {"x": jnp.asarray(x)}

    @jax.jit  # one program rather than some fifty for each of the examples
    def computed(out, batch, key):
        variables = likelihood.init(jax.random.key(0), out[None], batch)
        px = likelihood.apply(variables, out[None], batch)
        wide = features(batch["x"], columns)
        log_p, drawn = px.log_prob(batch["x"][None])[0], px.sample(key)[0]
        return log_p, expectation(px)[0], wide, decide(wide, columns), drawn

    key = jax.random.key(seed % 2**31)
    found, averages, wide, decided, drawn = map(
        np.asarray, computed(jnp.asarray(out), batch, key)
    )
    log_p, means = by_column(columns, out, x)
    constant = [c.kind == "constant" for c in columns]
    np.testing.assert_allclose(found, log_p, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(averages, np.concatenate(means, 1), rtol=1e-5, atol=1e-6)
    slow = [
        np.eye(len(c.values))[x[:, n].astype(int)]
        if c.kind == "category"
        else x[:, n : n + 1]
        for n, c in enumerate(columns)
    ]
    np.testing.assert_array_equal(wide, np.concatenate(slow, 1))
    binary = np.array([c.kind == "binary" for c in columns])
    np.testing.assert_array_equal(decided, np.where(binary, x > 0.5, x))
    assert (drawn[:, constant] == 0).all()
    assert drawn.shape == x.shape


def test_slopes_of_a_table_are_those_of_its_columns():
    """By each number that the decoder gives, of columns whose kinds are mixed."""
    columns = table([*KINDS, *reversed(KINDS)])
    rng = np.random.default_rng(0)
    x = rng.integers(0, [len(c.values) or 6 for c in columns], (9, len(columns)))
    likelihood = TableLikelihood(columns, Gaussian())
    out = rng.normal(size=(9, likelihood.outputs(len(columns)))).astype(np.float32)
    batch = {"x": jnp.asarray(x, jnp.float32)}

    def total(out):
        return likelihood.apply(variables, out, batch).log_prob(batch["x"]).sum()

    variables = likelihood.init(jax.random.key(0), jnp.asarray(out), batch)
    found, exact = np.asarray(jax.grad(total)(jnp.asarray(out))), []
    kinds = ("real", "binary", "count", "category")
    places = [n for k in kinds for n, c in enumerate(columns) if c.kind == k]
    # value - mean, of one-hot values for a category: all are exponential families
    _, means = by_column(columns, out, x)
    for n in places:
        width = means[n].shape[1]
        value = x[:, n : n + 1] if width == 1 else np.eye(width)[x[:, n]]
        exact.append(value - means[n])
    exact = np.concatenate(exact, 1)
    # exp and a difference round; means are below e^4
    np.testing.assert_allclose(found, exact, rtol=0, atol=8 * EPS * np.exp(4))


def test_a_library_shares_a_rows_total_among_its_columns():
    out = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 5)), jnp.float32)
    x = jnp.asarray([[3, 0, 1, 0, 6], [0] * 5, [2, 2, 2, 2, 2]], jnp.float32)
    mask = jnp.asarray([[1] * 5, [1] * 5, [1, 0, 1, 0, 1]], jnp.float32)
    likelihood = OfLibrary(typical=7.0, counts=PoissonCounts())
    mean = np.asarray(likelihood.apply({}, out, {"x": x}).mean)
    shares = np.asarray(jax.nn.softmax(out))
    np.testing.assert_allclose(
        mean, shares * np.array([10, 7, 10])[None, :, None], 1e-5
    )
    # Of a row with holes the observed means sum to the observed total.
    mean = np.asarray(likelihood.apply({}, out, {"x": x, "mask": mask}).mean)
    seen = np.asarray(mask)[2] == 1
    np.testing.assert_allclose(mean[:, 2, seen].sum(-1), 6, rtol=1e-5)
    ratio = mean[:, 2] / shares[:, 2]
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1], ratio.shape), 1e-5)
    dispersed = OfLibrary(typical=7.0, counts=NegativeBinomialCounts())
    variables = dispersed.init(jax.random.key(0), out, {"x": x})
    assert jax.tree.leaves(variables)[0].shape == (5,)


WIDE = np.random.default_rng(0).poisson(2.0, (24, 6)) + np.eye(24, 6, dtype=int)
GENES = ["g1", "g2", "g10", "h", "all", "i"]


@pytest.mark.parametrize(
    ("asked", "counted"),
    [
        (("g*",), "g1 g2 g10"),
        (("g?", "h"), "g1 g2 h"),
        (("all",), "all"),
        (("*",), "g1 g2 g10 h all i"),
        ((), ""),
    ],
)
def test_counts_are_asked_for_by_names_and_patterns(asked, counted, tmp_path):
    np.savez(tmp_path / "t.npz", x_train=WIDE, columns=GENES)
    frame = pd.DataFrame(WIDE, columns=GENES)
    frame.to_csv(tmp_path / "t.csv", index=False)
    for data in (
        from_arrays(WIDE, columns=GENES, counts=asked),
        open_dataset(f"npz:{tmp_path / 't.npz'}", counts=asked),
        open_dataset(f"csv:{tmp_path / 't.csv'}", counts=asked),
    ):
        found = [c.name for c in data.spec.columns if c.kind == "count"]
        assert " ".join(found) == counted


def test_all_columns_of_an_array_without_names_are_counts():
    spec = from_arrays(WIDE, counts=("all",)).spec
    assert [c.name for c in spec.columns] == list("012345")
    assert {c.kind for c in spec.columns} == {"count"}
    assert set(spec.mean) == {0.0}
    assert set(spec.scale) == {1.0}


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (WIDE - 9, "counts are 0, 1, 2"),
        (WIDE + 0.5, "counts are 0, 1, 2"),
        (WIDE[:, :5], "give one for each"),
        (WIDE[:, None].astype(np.uint8), "columns of a table"),
    ],
)
def test_what_is_no_count_is_refused(x, says):
    with pytest.raises(InputError, match=says):
        from_arrays(x, columns=GENES, counts=("g*",))
    with pytest.raises(InputError, match="has no column 'z"):
        from_arrays(WIDE, columns=GENES, counts=("z*", "z"))


def test_a_library_needs_counts_in_every_row():
    tiny = {"hidden": (4,), "latents": 1, "epochs": 1, "batch_size": 8}
    with pytest.raises(InputError, match="has none of"):
        presets.vae(dataset=from_arrays(WIDE), library_size="observed", **tiny)
    data = from_arrays(np.where(np.arange(24)[:, None] == 3, 0, WIDE), counts=("all",))
    with pytest.raises(InputError, match="1 rows of arrays hold no counts"):
        presets.vae(dataset=data, library_size="observed", **tiny)


def test_a_model_of_counts_trains_and_samples_totals_of_the_data(tmp_path):
    data = from_arrays(WIDE, counts=("all",))
    settings = {"hidden": (4,), "latents": 1, "epochs": 1, "batch_size": 8}
    kind = {"count_likelihood": "negative_binomial", "library_size": "observed"}
    model = presets.vae(dataset=data, **settings, **kind)
    state = vaejax.train(model, tmp_path / "run", quiet=True)
    means = vaejax.sample(model, state, jax.random.key(0), 5)
    train = data.split("train")["x"].sum(1)
    np.testing.assert_allclose(np.asarray(means).sum(1), train.mean(), rtol=1e-4)
    found = vaejax.evaluate(model, state, samples=10)
    assert np.isfinite(found["nll"])


def test_wide_counts_train_at_the_default_rate():
    """Rates that are those of narrow tables threw the means to infinity."""
    rng = np.random.default_rng(0)
    depth = np.exp(rng.normal(0, 0.5, (64, 1)))
    x = rng.poisson(depth * np.exp(rng.normal(0, 1, 20_000)))
    data = from_arrays(x, counts=("all",))
    settings = {"hidden": (32,), "latents": 2, "batch_size": 32}
    model = presets.vae(dataset=data, **settings)
    losses = losses_of(model, 30)
    assert np.isfinite(losses).all()
    # Two batches of one epoch differ by their depths, whose mean over 32 rows is off by
    # a tenth: what is above the first by more has been driven away.
    assert losses.max() < 1.3 * losses[0]
    assert losses[-2:].mean() < losses[:2].mean()


def losses_of(experiment, steps):
    """The losses of the first steps of training."""
    mesh = parallel.make_mesh(1, experiment.training.batch_size)
    feed = resident_feed(experiment.dataset.split("train"), 32, seed=0)
    resident, root = parallel.place(feed.resident, mesh), jax.random.key(0)
    state = first_state(experiment, mesh)
    made = parallel.compile_steps(experiment, feed, mesh, state, resident)
    _, metrics, _ = made.advance(state, resident, feed.take(0, steps), root)
    return np.asarray(metrics["vae/loss"])


def test_layers_that_read_few_counts_keep_their_rate():
    """And an optimizer's state is the same with and without wide layers."""
    wide = from_arrays(np.eye(2, 1001, dtype=int), counts=("all",)).spec
    plain = optax.sgd(1.0)
    params = {"encoder": {"kernel": jnp.ones((2002, 3)), "bias": jnp.ones(3)}}
    params |= {"decoder": {"kernel": jnp.ones((3, 1001)), "bias": jnp.ones(1001)}}
    made = for_counts(plain, wide)
    moved, state = made.update(params, made.init(params), params)
    assert jax.tree.structure(state) == jax.tree.structure(plain.init(params))
    np.testing.assert_allclose(moved["encoder"]["kernel"], -1000 / 2002, rtol=2 * EPS)
    for name, part in (("encoder", "bias"), ("decoder", "kernel"), ("decoder", "bias")):
        np.testing.assert_array_equal(moved[name][part], -1)
    narrow = from_arrays(WIDE, counts=("all",)).spec
    assert for_counts(plain, narrow) is plain
