"""Scores of codes: what theory says, and definitions computed in NumPy alone."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import mutual_info_score, roc_auc_score
from sklearn.svm import LinearSVC

from vaejax.errors import InputError
from vaejax.metrics import clusters
from vaejax.metrics.disentanglement import across_runs, infomec, linear
from vaejax.metrics.disentanglement import information as info
from vaejax.metrics.disentanglement import interventions as held
from vaejax.metrics.disentanglement import predictors as pred
from vaejax.metrics.disentanglement.base import paired_codes

SIZES = (3, 4, 5)
GRID = np.array(list(itertools.product(*map(range, SIZES)))).repeat(4, 0)
"""Every combination of three factors, four times each: they are independent."""
FACTORS = GRID[np.random.default_rng(0).permutation(len(GRID))]
FEW = {"train": 400, "test": 300}
RNG = np.random.default_rng(1)
NOISE = 1e-3 * RNG.normal(size=(len(FACTORS), 4))
"""So little that it moves no bin, no neighbour and no order."""


def perfect():
    """A latent for each factor."""
    return FACTORS + NOISE[:, :3]


def rotated():
    """Three latents that each hold all factors: no axis is one of them."""
    z = perfect() - perfect().mean(0)
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    return z / z.std(0) @ turn


def duplicated():
    """Each factor in two latents."""
    return np.repeat(FACTORS, 2, 1) + 1e-3 * RNG.normal(size=(len(FACTORS), 6))


def constant():
    """Latents that tell nothing."""
    return np.ones((len(FACTORS), 3))


def merged():
    """Two factors in the first latent, 4 a + b, the third in another, an idle one."""
    a, b, c = FACTORS.T
    return np.stack([4 * a + b, c, 0 * c], 1) + NOISE[:, :3] * [1, 1, 0]


SCORES = {
    "beta_vae": lambda z: held.beta_vae_score(z, FACTORS, **FEW).value,
    "factor_vae": lambda z: held.factor_vae_score(z, FACTORS, **FEW).value,
    "mig": lambda z: info.mutual_information_gap(z, FACTORS).value,
    "modularity": lambda z: info.modularity(z, FACTORS).value,
    "sap": lambda z: pred.separated_attributes(z, FACTORS).score,
    "irs": lambda z: held.interventional_robustness(z, FACTORS),
    "explicitness": lambda z: pred.explicitness(z, FACTORS),
}


# What theory says


@pytest.mark.parametrize("name", [*SCORES, "dci", "infomec"])
def test_perfect_and_permuted_codes(name):
    """A latent of its own for each factor, in any order, sign and scale."""
    z = perfect()
    other = z[:, [2, 0, 1]] * [-1.0, 3.0, 0.5] + 7
    if name == "dci":
        found = [pred.importance_scores(codes, FACTORS)[:3] for codes in (z, other)]
        np.testing.assert_allclose(found, 1, atol=0.02)
    elif name == "infomec":
        found = [infomec.information_scores(codes, FACTORS) for codes in (z, other)]
        for each in found:  # a neighbour's estimate of no information is above 0
            assert min(each.modularity, each.compactness) > 0.9
            assert each.explicitness > 0.5  # values of a factor need not be linear
    elif name == "sap":
        # The middle values of a factor are no half line: what a linear machine gets
        # is less than all, but the gap stays in any order of latents.
        assert SCORES["sap"](z) > 0.2
        np.testing.assert_allclose(SCORES["sap"](z[:, [2, 0, 1]]), SCORES["sap"](z))
    else:
        least = 0.99 if name != "explicitness" else 0.9
        for codes in (z, other):
            assert least < SCORES[name](codes) <= 1 + 1e-9


def test_duplicated_codes():
    """No gap, for there are two best latents; each of them still has one factor."""
    z = duplicated()
    assert SCORES["mig"](z) < 1e-9
    assert abs(SCORES["sap"](z)) < 0.02
    assert SCORES["modularity"](z) > 0.99
    assert SCORES["factor_vae"](z) == 1
    assert SCORES["irs"](z) > 0.99
    found = pred.importance_scores(z, FACTORS)
    assert found.disentanglement > 0.97
    # Of six latents two share all importance, equally at the least complete.
    assert 1 - math.log(2) / math.log(6) - 0.02 < found.completeness <= 1


def test_constant_codes():
    """Chance, or nothing."""
    z = constant()
    for name in ("mig", "modularity", "irs", "factor_vae", "sap"):
        assert SCORES[name](z) == 0, name
    assert abs(SCORES["beta_vae"](z) - 1 / 3) < 0.1
    assert SCORES["explicitness"](z) == 0.5
    found = pred.importance_scores(z, FACTORS)
    np.testing.assert_allclose(found[:2], 0, atol=1e-6)
    assert found.informativeness < 0.5
    assert infomec.information_scores(z, FACTORS).active.sum() == 0


def test_rotated_codes():
    """A rotation lowers scores of single latents, and no score of linear maps."""
    z, right = rotated(), perfect()
    for name in ("mig", "sap", "irs", "modularity"):
        assert SCORES[name](z) < 0.8 * SCORES[name](right), name
    assert SCORES["explicitness"](z) > 0.95 * SCORES["explicitness"](right)
    z_dci, best = (pred.importance_scores(each, FACTORS) for each in (z, right))
    assert z_dci.disentanglement < 0.6 < 0.95 < best.disentanglement


def test_two_merged_factors():
    """MIG counts the gap of each factor by itself: both merged ones keep theirs."""
    # The first latent knows both, no other knows either: every factor has its full gap.
    assert SCORES["mig"](merged()) > 0.99
    # Its information is log 3 and log 4 of two factors, and nothing of the third; the
    # second latent is modular, and the idle one counts as 0.
    first = 1 - (math.log(3) / math.log(4)) ** 2 / 2
    want = (first + 1 + 0) / 3
    np.testing.assert_allclose(SCORES["modularity"](merged()), want, atol=1e-3)


# Definitions, written down once more


def numpy_information(z, v):
    """I of a histogram of 20 equal bins, cell by cell."""
    low, high = z.min(), z.max()
    place = np.minimum(((z - low) / (high - low) * 20).astype(int), 19)
    total = 0.0
    for i, j in itertools.product(range(20), np.unique(v)):
        both = np.mean((place == i) & (v == j))
        if both:
            total += both * math.log(both / np.mean(place == i) / np.mean(v == j))
    return total


def test_gap_and_modularity_are_those_of_the_definition():
    z = rotated() + 0.3 * RNG.normal(size=(len(FACTORS), 3))
    matrix = np.array([[numpy_information(c, v) for v in FACTORS.T] for c in z.T])
    np.testing.assert_allclose(info.information_matrix(z, FACTORS), matrix, atol=1e-12)
    entropies = np.log(SIZES)
    np.testing.assert_allclose(info.factor_entropies(FACTORS), entropies)
    gaps = []
    for k, column in enumerate(matrix.T):
        first, second = sorted(column)[::-1][:2]
        gaps.append((first - second) / entropies[k])
    found = info.mutual_information_gap(z, FACTORS)
    np.testing.assert_allclose(found.value, np.mean(gaps))
    each = [1 - (np.sum(r**2) - max(r**2)) / (2 * max(r**2)) for r in matrix]
    np.testing.assert_allclose(info.modularity(z, FACTORS).value, np.mean(each))
    binned = info.histogram_bins(z)
    np.testing.assert_allclose(
        mutual_info_score(binned[:, 0], FACTORS[:, 1]), matrix[0, 1]
    )


def test_the_error_of_a_gap_is_that_of_other_examples():
    """The jackknife's error against the spread of scores of fresh examples."""
    rng = np.random.default_rng(3)

    def fresh(count=600):
        v = np.stack([rng.integers(0, n, count) for n in SIZES], 1)
        return v + rng.normal(size=v.shape), v

    scores = [info.gap_of_codes(*fresh()) for _ in range(60)]
    errors = [info.mutual_information_gap(*fresh()).error for _ in range(12)]
    assert 0.5 < np.mean(errors) / np.std(scores) < 2


def test_gap_by_densities_of_the_definition():
    """The sums over examples, one density at a time; and a case with a closed form."""
    rng = np.random.default_rng(0)
    v = FACTORS[::4][:40, :2]
    mean = v + 0.5 * rng.normal(size=v.shape)
    scale = rng.uniform(0.3, 1.0, v.shape)
    z = mean + scale * rng.normal(size=v.shape)

    def density(j, value, rows):
        d = np.exp(-0.5 * ((value - mean[rows, j]) / scale[rows, j]) ** 2)
        return np.mean(d / scale[rows, j] / math.sqrt(2 * math.pi))

    matrix = np.zeros((2, 2))
    for j, k in itertools.product(range(2), range(2)):
        whole = -np.mean(
            [math.log(density(j, z[n, j], np.arange(40))) for n in range(40)]
        )
        part = 0.0
        for value in np.unique(v[:, k]):
            rows = np.flatnonzero(v[:, k] == value)
            own = [math.log(density(j, z[n, j], rows)) for n in rows]
            part -= len(rows) / 40 * np.mean(own)
        matrix[j, k] = max(0, whole - part)
    q = info.GaussianLatents(z, mean, scale)
    found = info.mutual_information_gap_of_densities(q, v)
    np.testing.assert_allclose(found.information, matrix, atol=1e-5)
    entropies = [mutual_info_score(c, c) for c in v.T]
    gap = np.mean((matrix.max(0) - matrix.min(0)) / entropies)
    np.testing.assert_allclose(found.score.value, gap, atol=1e-5)
    narrow = np.full((len(FACTORS), 3), 0.05)
    z = FACTORS + 0.05 * rng.normal(size=narrow.shape)
    sure = info.mutual_information_gap_of_densities(
        info.GaussianLatents(z, FACTORS.astype(float), narrow), FACTORS
    )
    np.testing.assert_allclose(sure.score.value, 1, atol=1e-4)
    np.testing.assert_allclose(sure.information, np.diag(np.log(SIZES)), atol=1e-4)


def test_draws_share_their_factor():
    """And all that share it can be drawn."""
    groups = held.value_groups(FACTORS)
    rows, u = jnp.arange(240), jnp.arange(240) / 240
    for k in range(3):
        others = np.asarray(held.sharing(groups, jnp.int32(k), rows, u))
        np.testing.assert_array_equal(FACTORS[others, k], FACTORS[:, k])
        same = held.sharing(groups, jnp.int32(k), jnp.full(240, 7), u)
        alike = np.flatnonzero(FACTORS[:, k] == FACTORS[7, k])
        np.testing.assert_array_equal(np.unique(np.asarray(same)), alike)


def test_scores_by_interventions_are_those_of_the_definition():
    """Drawn by NumPy as disentanglement_lib draws: equal but for chance."""
    rng = np.random.default_rng(0)
    z = rotated() + 0.2 * rng.normal(size=(len(FACTORS), 3))

    def alike(k, value):
        return np.flatnonzero(FACTORS[:, k] == value)

    def point():
        k = rng.integers(3)
        rows = rng.integers(len(z), size=64)
        others = [rng.choice(alike(k, FACTORS[n, k])) for n in rows]
        return np.abs(z[rows] - z[others]).mean(0), k

    def vote():
        k = rng.integers(3)
        rows = rng.choice(alike(k, FACTORS[rng.integers(len(z)), k]), 64)
        return (z[rows].var(0, ddof=1) / z.var(0, ddof=1)).argmin(), k

    x, y = map(np.array, zip(*(point() for _ in range(900)), strict=True))
    model = LogisticRegression().fit(x[:500], y[:500])
    want = model.score(x[500:], y[500:])
    found = held.beta_vae_score(z, FACTORS, train=500, test=1000)
    assert abs(found.value - want) < 4 * math.hypot(found.error, 0.5 / 20)
    votes = [vote() for _ in range(1500)]
    table = np.zeros((3, 3))
    for latent, k in votes[:700]:
        table[latent, k] += 1
    want = np.mean([table[latent].argmax() == k for latent, k in votes[700:]])
    found = held.factor_vae_score(z, FACTORS, train=700, test=1000)
    assert abs(found.value - want) < 4 * math.hypot(found.error, 0.5 / 28)


def test_latents_that_hardly_vary_have_no_vote():
    z = np.concatenate([0.01 * perfect(), 1000 * NOISE[:, 3:]], 1)
    assert held.factor_vae_score(z, FACTORS, **FEW).value < 0.45  # one latent votes
    assert held.factor_vae_score(0.01 * perfect(), FACTORS, **FEW).value == 0


def test_robustness_is_that_of_the_definition():
    z = rotated()
    deviation = np.abs(z - z.mean(0)).max(0)
    scores = []
    for j in range(3):
        best = []
        for k in range(3):
            moved = []
            for value in range(SIZES[k]):
                own = z[FACTORS[:, k] == value, j]
                moved.append(np.quantile(np.abs(own - own.mean()), 0.99))
            best.append(1 - np.mean(moved) / deviation[j])
        scores.append(max(best))
    want = np.average(scores, weights=deviation)
    np.testing.assert_allclose(SCORES["irs"](z), want, rtol=1e-9)


@pytest.mark.parametrize("classes", [2, 4])
def test_machines_are_those_of_scikit_learn(classes):
    """Slopes and biases of LinearSVC, C = 0.01, balanced; ours are at the optimum."""
    rng = np.random.default_rng(0)
    y = np.minimum(
        rng.integers(0, 6, 300), classes - 1
    )  # the last class is the largest
    x = y + rng.normal(size=300)
    ours = np.asarray(linear.squared_hinge(x.astype(np.float32), y, classes, 0.01))
    machine = LinearSVC(C=0.01, class_weight="balanced", tol=1e-8, max_iter=100_000)
    machine.fit(x[:, None], y)
    want = np.column_stack([machine.coef_, machine.intercept_])
    np.testing.assert_allclose(ours[-len(want) :], want, atol=2e-4)
    predicted = (x[:, None] * ours[:, 0] + ours[:, 1]).argmax(1)
    assert np.mean(predicted == machine.predict(x[:, None])) > 0.99


@pytest.mark.parametrize("balanced", [False, True])
def test_regressions_are_those_of_scikit_learn(balanced):
    rng = np.random.default_rng(0)
    y = np.minimum(rng.integers(0, 6, 300), 3)
    x = rng.normal(size=(300, 3)) + np.eye(4, 3)[y]
    ours = linear.logistic_regression(x, y, 4, balanced=balanced)
    weight = "balanced" if balanced else None
    theirs = LogisticRegression(tol=1e-8, max_iter=1000, class_weight=weight).fit(x, y)
    log_p = theirs.predict_log_proba(x)
    np.testing.assert_allclose(ours.log_probabilities(x), log_p, atol=5e-3)
    scores = ours.scores(x)[:, 0]
    area = pred.area_under_roc(np.round(scores), y == 0)  # with ties
    np.testing.assert_allclose(area, roc_auc_score(y == 0, np.round(scores)))


def test_separation_is_the_gap_of_accuracies():
    z = rotated()
    cut = 2 * len(z) // 3
    accuracy = np.zeros((3, 3))
    for j, k in itertools.product(range(3), range(3)):
        machine = LinearSVC(C=0.01, class_weight="balanced", tol=1e-6, max_iter=50_000)
        machine.fit(z[:cut, j, None], FACTORS[:cut, k])
        accuracy[j, k] = machine.score(z[cut:, j, None], FACTORS[cut:, k])
    found = pred.separated_attributes(z, FACTORS)
    np.testing.assert_allclose(found.accuracy, accuracy, atol=0.03)  # rows on a border
    top = np.sort(found.accuracy, 0)
    np.testing.assert_allclose(found.score, np.mean(top[-1] - top[-2]))


def test_importances_are_weighed_by_their_mass():
    """1 - entropy of shares, by hand: one row is sure, one undecided, one empty."""
    matrix = np.array([[3.0, 0.0], [0.5, 0.5], [0.0, 0.0]])
    np.testing.assert_allclose(pred.concentration(matrix), 0.75, atol=1e-8)
    shares = np.array([3.0, 0.5]) / 3.5
    first = 1 + (shares * np.log(shares)).sum() / math.log(3)
    want = (3.5 * first + 0.5 * 1.0) / 4
    np.testing.assert_allclose(pred.concentration(matrix.T), want, atol=1e-8)


def test_infomec_of_known_shares():
    """Shares of information by hand; information that is known in closed form."""
    matrix = np.array([[0.8, 0.2], [0.5, 0.5]])
    np.testing.assert_allclose(infomec.largest_share(matrix), 2 * 0.65 - 1)
    z = np.concatenate([perfect(), 0.001 * rotated()], 1)
    found = infomec.information_scores(z, FACTORS)
    assert found.active.tolist() == [True] * 3 + [False] * 3
    np.testing.assert_allclose(np.diag(found.information), 1, atol=0.1)
    # With an indicator latent for each value, a linear map tells all.
    sure = np.concatenate(
        [np.eye(n)[v] for n, v in zip(SIZES, FACTORS.T, strict=True)], 1
    )
    np.testing.assert_allclose(infomec.explained(sure, FACTORS[:, 2]), 1, atol=0.02)
    assert abs(infomec.explained(NOISE, FACTORS[:, 2])) < 0.05


def test_ranking_across_runs():
    """1 for the same latents in another order and sign; low for a rotation."""
    z = np.random.default_rng(0).normal(size=(500, 4))
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    kl = np.array([1.0, 2.0, 0.5, 1.5])
    best_of: dict[across_runs.Similarity, float] = {"lasso": 0.9, "spearman": 1.0}
    for similarity, best in best_of.items():
        other = -z[:, [3, 0, 2, 1]]
        found = across_runs.disentanglement_ranking(
            [z, other, z @ turn], [kl] * 3, similarity
        )
        np.testing.assert_allclose(found.pairs[0, 1], best, atol=0.12)
        assert found.pairs[0, 2] < 0.75 * found.pairs[0, 1]
        want = np.median([found.pairs[1, 0], found.pairs[2, 0]])
        np.testing.assert_allclose(found.scores[0], want)
    # What tells nothing does not count; nothing at all is 0.
    dead = np.column_stack([z[:, :3], np.zeros(500)])
    some = np.array([1.0, 1.0, 1.0, 0.001])
    found = across_runs.disentanglement_ranking([dead, -dead], [some] * 2, "spearman")
    np.testing.assert_allclose(found.scores, 1, atol=0.12)
    assert not across_runs.disentanglement_ranking([z, z], [0 * kl] * 2).scores.any()
    with pytest.raises(InputError, match="at least two"):
        across_runs.disentanglement_ranking([z], [kl])


def test_labels_of_clusters():
    """Far clusters are told by all; noise by nothing, but for chance."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 300)
    far = 10 * np.eye(3)[y] + rng.normal(size=(300, 3))
    assert clusters.cluster_agreement(far, y) == (1, 1)
    assert clusters.neighbour_accuracy(far, y).value == 1
    assert clusters.probe_accuracy(far, y).value == 1
    noise = rng.normal(size=(300, 3))
    assert abs(clusters.cluster_agreement(noise, y).rand) < 0.05
    for score in (clusters.neighbour_accuracy, clusters.probe_accuracy):
        found = score(noise, y)
        assert abs(found.value - 1 / 3) < 5 * found.error
    # The vote of the five nearest, one by one.
    near = noise[200:, None] - noise[None, :200]
    order = np.square(near).sum(-1).argsort(1)[:, :5]
    votes = [np.bincount(y[:200][row], minlength=3).argmax() for row in order]
    want = np.mean(np.array(votes) == y[200:])
    np.testing.assert_allclose(clusters.neighbour_accuracy(noise, y).value, want)


def test_codes_that_do_not_fit_are_refused():
    for codes, factors, says in (
        (perfect()[:9], FACTORS, "are not"),
        (perfect(), FACTORS * 1.0, "whole numbers"),
        (perfect() * np.nan, FACTORS, "finite"),
        (perfect(), FACTORS * [1, 0, 1], "factor 1 has one value"),
    ):
        with pytest.raises(InputError, match=says):
            paired_codes(codes, factors)
