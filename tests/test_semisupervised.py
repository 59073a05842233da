"""Few labels: batches, bounds against closed forms, predictions."""

from functools import partial
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import norm

import vaejax
from vaejax.data import open_dataset
from vaejax.data.labels import keep_labels, labelled_order
from vaejax.distributions import Normal
from vaejax.errors import InputError
from vaejax.metrics import clusters
from vaejax.models import SemiSupervisedVAE, StandardNormal
from vaejax.models.critic import Critique
from vaejax.objectives.semisupervised import marginal_bound, semi_supervised
from vaejax.presets import classifier, cvae, m2, vae

SHIFT = np.array([-1.5, 0.2, 2.0])  # c_y: p(x | z, y) = N(w z + c_y, s^2)
W, S = 0.8, 0.6
A, B, T = 0.5, np.array([0.3, -0.1, -0.6]), 0.7  # q(z | x, y) = N(a x + b_y, t^2)
LOGITS = np.array([[-1.0, 0.2, 1.1], [0.3, 0.0, -0.2]])  # q(y | x): slope and offset
X = np.array([-2.0, 0.1, 0.9, 2.5])
ROWS = 20_000


def shares(y):
    return y if y.ndim == 2 else nn.one_hot(y, 3)


class Recognition(nn.Module):
    def __call__(self, batch):
        y = shares(batch["y"]) @ jnp.asarray(B)[:, None]
        return Normal(A * batch["x"] + y, jnp.full(batch["x"].shape, T))


class Generation(nn.Module):
    def __call__(self, z, batch):
        y = shares(batch["y"]) @ jnp.asarray(SHIFT)[:, None]
        return Normal(W * z + y[None], jnp.full(z.shape, S))


class Logits(nn.Module):
    sharp: float = 1.0

    def __call__(self, x, batch):
        del batch
        logits = x * jnp.asarray(LOGITS[0])[None] + jnp.asarray(LOGITS[1])[None]
        return Critique(self.sharp * logits, (x,))


def model(sharp=1.0):
    return SemiSupervisedVAE(
        encoder=Recognition(),
        decoder=Generation(),
        prior=StandardNormal(1),
        classifier=Logits(sharp),
    )


def batch_of(x, y):
    """`ROWS` copies of an example: the mean over rows is an expectation."""
    return {
        "x": jnp.full((ROWS, 1), x, jnp.float32),
        "y": jnp.full(ROWS, y, jnp.int32),
    }


def terms_of(batch, **settings):
    objective = partial(semi_supervised, **settings)
    return nn.apply(objective, model())({}, batch, jax.random.key(0))[1]


def label_terms(x):
    """-E log p(x | z, y) and KL(q || p) for each y, in closed form by NumPy."""
    mean = A * x + B
    error = (x - W * mean - SHIFT) ** 2 + (W * T) ** 2
    distortion = error / (2 * S**2) + np.log(S) + 0.5 * np.log(2 * np.pi)
    kl = 0.5 * (T**2 + mean**2 - 1) - np.log(T)
    # The variance of the distortion over draws, for the error of a mean over rows.
    first = 2 * (x - W * mean - SHIFT) * W * T
    variance = (first**2 + 2 * (W * T) ** 4) / (2 * S**2) ** 2
    return distortion, kl, variance


def log_q(x):
    logits = x * LOGITS[0] + LOGITS[1]
    return logits - logsumexp(logits)


@pytest.mark.parametrize("x", X)
def test_the_bounds_are_those_of_closed_forms(x):
    """With y summed over, and given; and the classifier's term."""
    distortion, kl, variance = label_terms(x)
    q = np.exp(log_q(x))
    found = terms_of(batch_of(x, -1), auxiliary=7.0)
    near = 5 * np.sqrt((q**2 * variance).sum() / ROWS)
    assert abs(found["distortion"] - q @ distortion) < near
    np.testing.assert_allclose(found["kl_z"], q @ kl, rtol=1e-5)
    np.testing.assert_allclose(found["kl_y"], q @ log_q(x) + np.log(3), atol=1e-5)
    assert found["classification"] == 0
    given = terms_of(batch_of(x, 2), auxiliary=7.0)
    near = 5 * np.sqrt(variance[2] / ROWS)
    assert abs(given["distortion"] - distortion[2]) < near
    np.testing.assert_allclose(given["kl_y"], np.log(3), rtol=1e-6)
    np.testing.assert_allclose(given["classification"], -7 * log_q(x)[2], rtol=1e-5)
    parts = ("distortion", "kl_z", "kl_y", "classification")
    np.testing.assert_allclose(given["loss"], sum(given[n] for n in parts), rtol=1e-5)


@pytest.mark.parametrize("x", X)
def test_bounds_are_below_what_they_bound(x):
    """By exactly KL(q(y, z | x) || p(y, z | x)), which the toy has in closed form."""
    joint = norm.logpdf(x, SHIFT, np.hypot(W, S)) - np.log(3)  # log p(x, y)
    precision = 1 + (W / S) ** 2
    mean, scale = W * (x - SHIFT) / S**2 / precision, precision**-0.5
    ratio = T / scale
    gap = 0.5 * (ratio**2 + ((A * x + B - mean) / scale) ** 2 - 1) - np.log(ratio)
    _, _, variance = label_terms(x)
    near = 5 * np.sqrt(variance.max() / ROWS)
    for y in range(3):
        bound = float(terms_of(batch_of(x, y))["elbo"])
        assert abs(bound - (joint[y] - gap[y])) < near
        assert bound <= joint[y] + near
    q = np.exp(log_q(x))
    exact = logsumexp(joint)
    of_labels = (q * (log_q(x) - (joint - exact))).sum()
    bounds = nn.apply(marginal_bound, model())({}, batch_of(x, 1), jax.random.key(1))
    assert abs(bounds.mean() - (exact - of_labels - q @ gap)) < near
    assert bounds.mean() <= exact + near


def test_a_sure_label_is_a_given_one():
    """Where q(y | x) is one-hot, U(x) = L(x, y): exactly, at the same draws."""
    sure = model(sharp=1e4)
    found = []
    for y in (-1, int(log_q(2.5).argmax())):
        loss, _ = nn.apply(semi_supervised, sure)(
            {}, batch_of(2.5, y), jax.random.key(0)
        )
        found.append(float(loss))
    assert found[0] == pytest.approx(found[1], rel=1e-6)


@pytest.mark.parametrize("temperature", [0.1, 2.0])
@pytest.mark.parametrize("x", X[:2])
def test_a_drawn_label_estimates_the_sum_without_bias(x, temperature):
    """At any temperature: draws are exact, and only their gradient is relaxed."""
    settings = {"estimator": "gumbel", "temperature": temperature}
    drawn = terms_of(batch_of(x, -1), **settings)
    distortion, kl, variance = label_terms(x)
    q = np.exp(log_q(x))
    for name, each, own in (("distortion", distortion, variance), ("kl_z", kl, 0 * kl)):
        mean = q @ each
        spread = q @ (own + (each - mean) ** 2)
        assert abs(drawn[name] - mean) < 5 * np.sqrt(spread / ROWS)
    np.testing.assert_allclose(drawn["kl_y"], q @ log_q(x) + np.log(3), atol=1e-5)


def test_batches_hold_the_ratio_and_every_row_has_its_turn():
    x = np.random.default_rng(0).normal(size=(90, 2))
    y = np.where(np.arange(90) % 9 == 0, np.arange(90) % 2, -1)  # 10 labelled
    data = vaejax.from_arrays(x, y, x[:4], np.array([0, 1, 0, 1]))
    order = labelled_order(90, 12, 3, dataset=data, share=0.25)
    steps = [order.rows(step) for step in range(80)]
    kept = data.split("train")["y"]
    assert all((kept[rows] >= 0).sum() == 3 for rows in steps)
    labelled = np.concatenate([rows[:3] for rows in steps])
    others = np.concatenate([rows[3:] for rows in steps])
    for turn in range(0, 240, 10):  # each ten a permutation of the ten labelled rows
        assert len(set(labelled[turn : turn + 10].tolist())) == 10
    for turn in range(0, 720, 80):
        assert len(set(others[turn : turn + 80].tolist())) == 80
    assert not np.array_equal(labelled[:10], labelled[10:20])
    again = labelled_order(90, 12, 3, dataset=data, share=0.25)
    np.testing.assert_array_equal(again.rows(71), steps[71])
    # By default the ratio of the set, and at least one: 12 * 10 / 90 = 1.3.
    usual = labelled_order(90, 12, 3, dataset=data)
    assert all((kept[usual.rows(step)] >= 0).sum() == 1 for step in range(20))


def test_kept_labels_are_balanced_and_of_the_seed():
    data = open_dataset("digits")
    whole = data.split("train")["y"]
    few, same, other, more = (
        keep_labels(data, count, seed).split("train")["y"]
        for count, seed in ((100, 0), (100, 0), (100, 1), (205, 0))
    )
    assert np.bincount(few[few >= 0]).tolist() == [10] * 10
    assert np.bincount(more[more >= 0]).tolist() == [21] * 5 + [20] * 5
    np.testing.assert_array_equal(few, same)
    assert (few != other).any()
    assert (whole[few >= 0] == few[few >= 0]).all()
    assert (more[few >= 0] == few[few >= 0]).all()
    kept = keep_labels(data, 100)
    assert kept.spec.unlabelled == len(whole) - 100
    np.testing.assert_array_equal(kept.split("test")["y"], data.split("test")["y"])
    for count, words in ((5, "one a class"), (1400, "of each class")):
        with pytest.raises(InputError, match=words):
            keep_labels(data, count).split("train")


TABLE = np.random.default_rng(0).normal(size=(40, 3))
PARTLY = np.where(np.arange(40) % 4 == 0, np.arange(40) % 8 // 4, -1)


def partly_labelled():
    return vaejax.from_arrays(TABLE, PARTLY, TABLE[:8], PARTLY[:32:4])


@pytest.mark.parametrize("make", [vae, cvae, classifier])
def test_others_refuse_examples_without_a_label(make):
    with pytest.raises(InputError, match="30 training examples without a label"):
        make(dataset=partly_labelled())


def test_labels_of_tests_are_all_known():
    with pytest.raises(InputError, match="no test split: give x_test and y_test"):
        vaejax.from_arrays(TABLE, PARTLY)
    with pytest.raises(InputError, match="y_test of 'arrays' has labels outside"):
        vaejax.from_arrays(TABLE, PARTLY, TABLE, PARTLY)
    with pytest.raises(InputError, match="has no label but -1"):
        vaejax.from_arrays(TABLE, np.full(40, -1), TABLE, np.zeros(40, int))
    with pytest.raises(InputError, match="has no room"):
        m2(dataset="digits", batch_size=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two clouds, of which four examples have labels."""
    folder = tmp_path_factory.mktemp("run") / "m2"
    rng = np.random.default_rng(1)
    y = np.arange(400) % 2
    x = rng.normal(size=(400, 2)) + 4.0 * y[:, None]
    known = np.where(np.arange(300) < 4, y[:300], -1)
    where = folder.parent / "clouds.npz"
    np.savez(where, x_train=x[:300], y_train=known, x_test=x[300:], y_test=y[300:])
    settings = {"hidden": (8,), "latents": 1, "batch_size": 30, "learning_rate": 0.01}
    experiment = m2(
        dataset=f"npz:{where}", labels=0, epochs=30, evaluate_every=30, **settings
    )
    state = vaejax.train(experiment, folder, quiet=True)
    return experiment, state, folder


def test_four_labels_name_two_clouds(run):
    """Accuracy of evaluate is that of predict, with a binomial standard error."""
    experiment, state, folder = run
    values = vaejax.evaluate(experiment, state, samples=0)
    test = experiment.dataset.split("test")
    told = vaejax.predict(experiment, state, test["x"])
    np.testing.assert_allclose(told.probabilities.sum(1), 1, rtol=1e-5)
    hits = (told.labels == test["y"]).mean()
    assert hits >= 0.95
    assert values["accuracy"] == pytest.approx(hits, abs=1e-6)
    assert values["error"] == pytest.approx(1 - hits, abs=1e-6)
    binomial = np.sqrt(hits * (1 - hits) / (len(test["y"]) - 1))
    assert values["accuracy_se"] == pytest.approx(binomial, rel=1e-4, abs=1e-6)
    loaded, again = vaejax.load(folder)
    assert loaded.dataset.spec.unlabelled == 296
    found = vaejax.predict(loaded, again, test["x"])
    np.testing.assert_array_equal(found.labels, told.labels)
    with pytest.raises(InputError, match="296 examples of --split train"):
        vaejax.evaluate(experiment, state, split="train", samples=0)


def test_an_unknown_label_is_encoded_as_the_most_probable(run):
    experiment, state, _ = run
    x = experiment.dataset.split("test")["x"][:20]
    told = vaejax.predict(experiment, state, x).labels
    q, same = (
        vaejax.encode(experiment, state, x, {"y": y})
        for y in (np.full(20, -1), told.astype(np.int32))
    )
    np.testing.assert_array_equal(cast(Any, q).mean, cast(Any, same).mean)


def test_what_tells_no_labels_predicts_none():
    with pytest.raises(InputError, match="tells no labels"):
        vaejax.predict(vae(dataset="digits"), cast(Any, None), np.zeros((1, 8, 8, 1)))


def test_draws_of_a_first_stage_have_its_means_and_deviations(tmp_path):
    first = vae(dataset="digits", hidden=(8,), latents=2, epochs=1)
    state = vaejax.train(first, tmp_path / "first", quiet=True)
    experiment = m2(dataset=f"draws:{tmp_path / 'first'}", hidden=(8,), latents=2)
    spec, train = experiment.dataset.spec, experiment.dataset.split("train")
    means = open_dataset(f"latents:{tmp_path / 'first'}")
    np.testing.assert_allclose(
        train["x"] * np.array(spec.scale) + spec.mean,
        means.split("train")["x"] * np.array(means.spec.scale) + means.spec.mean,
        atol=1e-5,
    )
    total = train["x"].var(0) + (train["noise"] ** 2).mean(0)
    np.testing.assert_allclose(total, 1, rtol=1e-4)  # of draws, in model units
    some = {n: jnp.asarray(np.repeat(a[:1], 20_000, 0)) for n, a in train.items()}
    drawn = experiment.preprocess.apply(
        some | {"index": jnp.zeros(20_000, jnp.int32)}, jax.random.key(0)
    )
    assert "noise" not in drawn
    error = 5 * train["noise"][0] / np.sqrt(20_000)
    assert (np.abs(drawn["x"].mean(0) - train["x"][0]) < error).all()
    np.testing.assert_allclose(drawn["x"].std(0), train["noise"][0], rtol=0.03)
    del state


def test_codes_are_told_by_as_many_labels_as_are_known():
    """Four labels of two clouds are enough, and more than there are are refused."""
    rng = np.random.default_rng(0)
    y = np.arange(400) % 2
    codes = rng.normal(size=(400, 2)) + 8.0 * y[:, None]
    for score in (clusters.neighbour_accuracy, clusters.probe_accuracy):
        found = score(codes, y, labels=8)
        assert found.value == 1
        with pytest.raises(InputError, match="are all 400 examples"):
            score(codes, y, labels=400)
        with pytest.raises(InputError, match="takes 300 of each class"):
            score(codes, y, labels=600)


def test_replicas_of_a_study_have_one_set_of_labels(tmp_path):
    settings = {"hidden": (4,), "latents": 1, "epochs": 1, "batch_size": 700}
    with pytest.raises(InputError, match="--labels-by-seed gives other labels"):
        vaejax.study(
            m2, tmp_path, seeds=2, dataset="digits", labels_by_seed=True, **settings
        )
