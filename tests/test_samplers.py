"""Samplers fitted to encodings, against closed forms, and kept in a run."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vaejax
from vaejax import InputError, from_arrays, presets
from vaejax.cli.programs import evaluate as evaluate_program
from vaejax.cli.programs import sample as sample_program
from vaejax.metrics.sources import compare_samples, random_features
from vaejax.parallel import make_mesh
from vaejax.samplers import fit, record
from vaejax.samplers.encodings import encodings_of
from vaejax.training.loop import first_state
from vaejax.training.workdir import load

from .npz import read_npz

RNG = np.random.default_rng(0)
LATENTS = 3


def first(experiment):
    return first_state(experiment, make_mesh(1, experiment.training.batch_size))


@pytest.fixture(scope="module")
def linear():
    """A VAE of a table whose posterior is N(W x + b, diag s^2), and those numbers."""
    x = RNG.normal(size=(4000, 5)) @ RNG.normal(size=(5, 5)) + 1
    data = from_arrays(x, x_test=x[:10])
    experiment = presets.vae(dataset=data, body="linear", latents=LATENTS)
    state = first(experiment)
    w, b = RNG.normal(size=(5, LATENTS)), RNG.normal(size=LATENTS)
    s = np.array([0.3, 1.0, 2.0])
    dense = {
        "kernel": jnp.asarray(np.hstack([w, np.zeros_like(w)]), jnp.float32),
        "bias": jnp.asarray(np.concatenate([b, 2 * np.log(s)]), jnp.float32),
    }
    there = state.params["encoder"]
    assert jax.tree.map(jnp.shape, there) == {"Dense_0": jax.tree.map(jnp.shape, dense)}
    state = state._replace(params={**state.params, "encoder": {"Dense_0": dense}})
    x = data.split("train")["x"]
    return experiment, state, x.mean(0) @ w + b, w.T @ np.cov(x.T) @ w + np.diag(s**2)


def test_one_gaussian_has_the_moments_of_the_aggregated_posterior(linear):
    """Mean W m + b and covariance W S W' + diag s^2, whatever p(z) is."""
    experiment, state, mean, covariance = linear
    found = vaejax.fit_sampler(experiment, state, components=1)
    factor = found.arrays["factors"][0, 0].astype(float)
    # 20,000 draws, of 4,000 examples: an error of a few deviations / sqrt(20,000).
    deviation = np.sqrt(np.diag(covariance))
    assert np.abs(found.arrays["means"][0, 0] - mean).max() < 0.05 * deviation.max()
    scale = np.outer(deviation, deviation)
    assert np.abs((factor @ factor.T - covariance) / scale).max() < 0.05
    z = np.asarray(found.draw(jax.random.key(3), 20_000))
    assert np.abs(np.cov(z.T) - covariance).max() < 0.05 * scale.max()
    assert np.abs(z.mean(0) - mean).max() < 0.05 * deviation.max()
    cold = np.asarray(found.draw(jax.random.key(3), 20_000, temperature=0.5))
    centre = found.arrays["means"][0, 0]
    np.testing.assert_allclose(cold - centre, 0.5 * (z - centre), rtol=1e-4, atol=1e-5)


@pytest.fixture
def short(monkeypatch):
    """Second models of few steps, of which one Gaussian asks no more."""
    monkeypatch.setattr(fit, "STEPS", 600)


SECOND = ("flow", "two_stage")


@pytest.mark.parametrize("kind", SECOND)
def test_second_models_have_the_moments_of_the_aggregated_posterior(
    linear, short, kind
):
    experiment, state, mean, covariance = linear
    found = vaejax.fit_sampler(experiment, state, kind)
    z = np.asarray(found.draw(jax.random.key(3), 5000))
    deviation = np.sqrt(np.diag(covariance))
    assert np.abs((z.mean(0) - mean) / deviation).max() < 0.15
    # Their fits are by gradient, and of finite steps: correlations to the first digit.
    scale = np.outer(deviation, deviation)
    assert np.abs((np.cov(z.T) - covariance) / scale).max() < 0.25
    cold = np.asarray(found.draw(jax.random.key(4), 5, temperature=0.0))
    np.testing.assert_allclose(cold, np.broadcast_to(cold[:1], cold.shape), rtol=1e-5)
    assert np.abs((cold[0] - mean) / deviation).max() < 0.3  # of a Gaussian: its mode


def test_more_gaussians_see_what_one_cannot(linear):
    """Two far clusters: the mixture draws nothing between them."""
    experiment, state, *_ = linear
    far = np.concatenate([RNG.normal(-9, 1, (300, 5)), RNG.normal(9, 1, (300, 5))])
    clusters = from_arrays(far, x_test=far[:10])
    experiment = dataclasses.replace(experiment, dataset=clusters)
    two, one = (
        vaejax.fit_sampler(experiment, state, components=n).draw(jax.random.key(0), 500)
        for n in (2, 1)
    )
    z = encodings_of(experiment, state, jax.random.key(1)).z
    axis = np.linalg.svd(z - z.mean(0), full_matrices=False)[2][0]
    centre, spread = z.mean(0) @ axis, np.abs((z - z.mean(0)) @ axis).min()

    def between(draws):
        return np.mean(np.abs(np.asarray(draws) @ axis - centre) < spread)

    assert between(two) < 0.02 < 0.1 < between(one)


@pytest.fixture(scope="module")
def labelled():
    """A conditional VAE of a table whose labels are far apart; at its first state."""
    y = np.arange(600) % 3
    x = RNG.normal(size=(600, 4)) + 6 * y[:, None]
    data = from_arrays(x, y, x[:12], y[:12])
    experiment = presets.cvae(dataset=data, body="linear", latents=2)
    return experiment, first(experiment)


@pytest.mark.parametrize(
    "kind", ["gmm", *(pytest.param(k, marks=pytest.mark.slow) for k in SECOND)]
)
def test_a_conditional_model_has_a_density_for_each_label(labelled, monkeypatch, kind):
    if kind == "two_stage":  # a flow needs more steps for three clusters
        monkeypatch.setattr(fit, "STEPS", 600)
    experiment, state = labelled
    found = vaejax.fit_sampler(experiment, state, kind)
    codes = encodings_of(experiment, state, jax.random.key(1))
    labels = np.arange(1500) % 3
    z = np.asarray(found.draw(jax.random.key(0), 1500, labels))
    assert found.classes == 3
    for label in range(3):
        real = codes.z[codes.y == label]
        shift = (z[labels == label].mean(0) - real.mean(0)) / codes.z.std(0)
        assert np.abs(shift).max() < 0.2
    soft = np.full((4, 3), 1 / 3)
    for wrong in (soft, np.full(4, -1), np.full(4, 3)):
        with pytest.raises(InputError, match="a label of 0 to 2"):
            found.draw(jax.random.key(0), 4, wrong)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An autoencoder, whose encodings are far from its so-called prior."""
    folder = tmp_path_factory.mktemp("samplers") / "run"
    experiment = presets.autoencoder(
        dataset="digits", hidden=(32,), latents=4, epochs=15, learning_rate=5e-3
    )
    vaejax.train(experiment, folder, quiet=True, devices=1)
    return folder


@pytest.fixture
def copied(run, tmp_path):
    """A run of its own for each test that changes it."""
    import shutil

    return shutil.copytree(run, tmp_path / "run")


def test_samples_of_an_autoencoder_are_nearer_to_the_data(run):
    experiment, state = load(run)
    source = random_features(experiment.dataset.spec)
    sampler = vaejax.fit_sampler(experiment, state)
    prior, fitted = (
        compare_samples(experiment, state, source, num=350, sampler=s)[
            f"fd_{source.name}"
        ]
        for s in (None, sampler)
    )
    assert fitted < prior / 2


def test_the_same_seed_draws_the_same_from_a_kept_fit(copied, tmp_path, capsys):
    def draw(name, *flags):
        out = tmp_path / f"{name}.npz"
        sample_program.run(
            [str(copied), "--num", "5", "--out", str(out), "--sampler", "gmm", *flags]
        )
        return read_npz(out)["x"], capsys.readouterr().err

    x, said = draw("a")
    assert "fits gmm to the encodings of 1,438 training examples" in said
    again, said = draw("b")
    assert (x == again).all() and "fits" not in said
    refitted, said = draw("c", "--refit")
    assert (x == refitted).all() and "fits" in said
    other, _ = draw("d", "--seed", "1")
    assert (x != other).any()
    with pytest.raises(SystemExit):
        draw("e", "--components", "3")
    assert "has 10 components: give --refit" in capsys.readouterr().err


def test_a_file_that_was_changed_is_refused(copied, tmp_path, capsys):
    flags = [str(copied), "--num", "2", "--out", str(tmp_path / "x.npz")]
    sample_program.run([*flags, "--sampler", "gmm"])
    path = copied / "samplers" / "gmm.npz"
    arrays = read_npz(path)
    changed = {**arrays, "of/means": arrays["of/means"] + np.float32(1e-3)}
    less = {n: a for n, a in arrays.items() if n != "shape"}
    for bad in (changed, less):
        np.savez(path, **bad)
        with pytest.raises(SystemExit):
            sample_program.run([*flags, "--sampler", "gmm"])
        assert "gmm.npz is damaged: give --refit" in capsys.readouterr().err
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(SystemExit):
        sample_program.run([*flags, "--sampler", "gmm"])
    assert "is damaged" in capsys.readouterr().err
    sample_program.run([*flags, "--sampler", "gmm", "--refit"])
    assert (read_npz(path)["of/means"] == arrays["of/means"]).all()


def test_a_fit_of_other_parameters_is_made_again(copied, tmp_path, capsys):
    flags = [str(copied), "--num", "2", "--out", str(tmp_path / "x.npz")]
    sample_program.run([*flags, "--sampler", "gmm"])
    experiment, state = load(copied)
    other = state._replace(params=jax.tree.map(lambda leaf: 2 * leaf, state.params))
    path = copied / "samplers" / "gmm.npz"
    arrays = read_npz(path)
    from vaejax.samplers.cache import sampler_of_run

    capsys.readouterr()
    fitted = sampler_of_run(copied, experiment, other, "gmm")
    assert "trained on since" in capsys.readouterr().err
    assert fitted.model_digest == record.state_digest(other) != str(arrays["model"])
    with pytest.raises(InputError, match="encodings of other parameters"):
        vaejax.sample(experiment, state, jax.random.key(0), 2, sampler=fitted)


def test_an_evaluation_judges_samples_of_a_sampler(copied):
    flags = ["--samples", "0", "--features", "random", "--num", "60"]
    evaluate_program.run([str(copied), *flags, "--sampler", "gmm"])
    found = json.loads((copied / "evaluation.json").read_text())
    experiment, state = load(copied)
    source = random_features(experiment.dataset.spec)
    from vaejax.samplers.cache import sampler_of_run

    sampler = sampler_of_run(copied, experiment, state, "gmm")
    expected = compare_samples(experiment, state, source, num=60, sampler=sampler)
    name = f"fd_{source.name}"
    assert found["sampler"] == "gmm"
    assert found[name] == pytest.approx(expected[name], rel=1e-5)


def test_what_no_sampler_does_is_refused(run, linear, capsys):
    experiment, state = load(run)
    key = jax.random.key(0)
    with pytest.raises(InputError, match=r"no sampler 'gnm'.*gmm"):
        vaejax.fit_sampler(experiment, state, "gnm")
    with pytest.raises(InputError, match="components are of gmm"):
        vaejax.fit_sampler(experiment, state, "flow", components=3)
    with pytest.raises(InputError, match="--components is -1: it must be at least 0"):
        vaejax.fit_sampler(experiment, state, components=-1)
    sampler = vaejax.fit_sampler(experiment, state, components=2)
    with pytest.raises(InputError, match=r"temperature -0\.5"):
        vaejax.sample(experiment, state, key, 2, sampler=sampler, temperature=-0.5)
    gan = presets.gan(dataset="digits")
    with pytest.raises(InputError, match=r"no encoder.*--sampler prior"):
        vaejax.fit_sampler(gan, first(gan))
    completing = presets.cvae_sohn(dataset="digits", hidden=(8,), latents=2)
    with pytest.raises(InputError, match=r"given context.*--sampler prior"):
        vaejax.fit_sampler(completing, first(completing))
    for flags in (["--components", "3"], ["--refit"]):
        with pytest.raises(SystemExit):
            sample_program.run([str(run), *flags])
        assert "are of a fitted --sampler" in capsys.readouterr().err
    for flag, value in (("--sampler", "gmm"), ("--temperature", "0.5")):
        with pytest.raises(SystemExit):
            evaluate_program.run([str(run), flag, value])
        assert f"{flag} is of samples that are judged" in capsys.readouterr().err
