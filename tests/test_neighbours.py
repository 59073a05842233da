"""Precision, recall, density and coverage against their sums over all pairs, and all
distances of features where they are known.
"""

import numpy as np
import pytest

from vaejax import InputError
from vaejax.metrics import (
    compare_features,
    density_coverage,
    frechet_distance,
    neighbours,
    precision_recall,
)
from vaejax.metrics.quantities import OF_SAMPLES, meaning_of

RNG = np.random.default_rng(0)
SETS = RNG.normal(size=(40, 3)), RNG.normal(0.5, 1.2, size=(30, 3))


def by_pairs(real, generated, k):
    """The four numbers as the papers' sums, a pair at a time."""

    def reach(x):
        d = np.linalg.norm(x[:, None] - x[None], axis=-1)
        return [sorted(np.delete(row, i))[k - 1] for i, row in enumerate(d)]

    r_real, r_gen = reach(real), reach(generated)
    d = np.linalg.norm(real[:, None] - generated[None], axis=-1)
    n, m = d.shape
    precision = np.mean([any(d[i, j] <= r_real[i] for i in range(n)) for j in range(m)])
    recall = np.mean([any(d[i, j] <= r_gen[j] for j in range(m)) for i in range(n)])
    density = sum(d[i, j] <= r_real[i] for i in range(n) for j in range(m)) / (k * m)
    coverage = np.mean([any(d[i, j] <= r_real[i] for j in range(m)) for i in range(n)])
    return precision, recall, density, coverage


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_balls_are_counted_as_the_papers_sum(k, rows, monkeypatch):
    """Whatever the chunks: counts are equal to the last digit."""
    real, generated = SETS
    monkeypatch.setattr(neighbours, "CHUNK_BYTES", rows * 8 * len(real))
    found = (
        *precision_recall(real, generated, k=k),
        *density_coverage(real, generated, k=k),
    )
    assert found == pytest.approx(by_pairs(real, generated, k), rel=1e-12)


def test_equal_sets_are_among_each_other():
    """Each example is in its own ball and in those of which it is a neighbour: k + 1
    balls in the mean, as every ball holds its centre and k others.
    """
    x = SETS[0] * 1e-3 + 1e3  # far from 0, where differences of norms lose digits
    assert precision_recall(x, x.copy()) == (1, 1)
    density, coverage = density_coverage(x, x.copy(), k=5)
    assert (density, coverage) == (pytest.approx(6 / 5), 1)


def test_distant_sets_are_not():
    x = SETS[0]
    assert precision_recall(x, x + 100) == (0, 0)
    assert density_coverage(x, x + 100) == (0, 0)


def test_a_mode_that_is_missed_lowers_recall_and_coverage_alone():
    """Samples of one of two distant modes, of equal shares: half is covered."""
    mode = RNG.normal(size=(50, 2))
    real = np.concatenate([mode, mode + 1000])
    precision, recall = precision_recall(real, mode)
    assert (precision, recall) == (1, 0.5)
    density, coverage = density_coverage(real, mode)
    assert (density, coverage) == (pytest.approx(6 / 5), 0.5)


def test_a_collapsed_model_is_seen():
    """All samples alike: balls of radius 0, in which no other example is."""
    real = SETS[0]
    same = np.repeat(real[:1], 20, axis=0)
    precision, recall = precision_recall(real, same)
    assert (precision, recall) == (1, 1 / len(real))
    found = compare_features(real, same, "x")
    assert found["recall_x"] == 1 / len(real)
    assert found["fd_x"] > 0


def test_an_outlier_raises_precision_and_not_density():
    """Its ball holds all samples, which no other does [Naeem et al. 2020, fig. 3]."""
    mode = RNG.normal(size=(50, 2))
    real = np.concatenate([mode, [[60.0, 0.0]]])
    generated = mode + [30, 0]
    assert precision_recall(real, generated)[0] == 1
    assert density_coverage(real, generated)[0] == pytest.approx(1 / 5, rel=0.1)


def test_features_of_one_dimension_have_all_numbers():
    """Two sets with exact moments: (m_a - m_b)^2 + (s_a - s_b)^2."""
    x = np.linspace(-1, 1, 50)[:, None]
    scale = x.std(ddof=1)
    assert frechet_distance(x, 3 * x + 2) == pytest.approx(4 + (2 * scale) ** 2)
    found = compare_features(x, 3 * x + 2, "line")
    assert list(found) == [
        f"{name}_line"
        for name in ("fd", "kd", "precision", "recall", "density", "coverage")
    ]
    for name in found:
        assert meaning_of(OF_SAMPLES, name)


BAD = [
    (np.ones((20, 3)), SETS[1], "all equal"),
    (SETS[0], SETS[1] * np.nan, "of the samples are not all finite"),
    (SETS[0] + np.inf, SETS[1], "of the data are not all finite"),
    (SETS[0], SETS[1][:3], "3 examples of the samples are too few"),
    (SETS[0], SETS[1][:, :2], "3 features and the samples have 2"),
    (SETS[0].astype(str), SETS[1], "give numbers"),
    (SETS[0][0], SETS[1], "give numbers"),
    (SETS[0][:, :0], SETS[1], "give numbers"),
]


@pytest.mark.parametrize(("real", "generated", "says"), BAD)
def test_features_without_distances_are_refused_in_a_line(real, generated, says):
    with pytest.raises(InputError, match=says) as caught:
        compare_features(real, generated)
    assert "\n" not in str(caught.value)


def test_too_few_neighbours_are_refused():
    with pytest.raises(InputError, match="k = 30 neighbours of 30"):
        precision_recall(*SETS, k=30)


def test_fewer_examples_than_features_are_said(capsys):
    wide = RNG.normal(size=(2, 20, 30))
    compare_features(*wide, source="wide")
    assert "in 30 features (wide) of only 20" in capsys.readouterr().err
    compare_features(*SETS, source="tall")
    assert not capsys.readouterr().err
