"""Perceptual distances: VGG16 against NumPy, frozen weights, and files of them.

VGG16 and LPIPS are compared with PyTorch's by `make test-peers`.
"""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

import vaejax
from vaejax import InputError, presets
from vaejax.cli import commands
from vaejax.cli.judging import Judges
from vaejax.cli.measuring import EvaluationSettings
from vaejax.experiment import variables_of
from vaejax.metrics import perceptual as found_in
from vaejax.nn.perceptual import Perceptual, feature_distance, unit_channels
from vaejax.nn.vgg import STAGES, vgg_maps, vgg_shapes

RNG = np.random.default_rng(0)
EPS = float(np.finfo(np.float32).eps)


@pytest.fixture(scope="module")
def tensors():
    """Random weights that keep the size of maps, and positive ones of channels."""

    def drawn(name, shape):
        if name.startswith("lin"):
            return RNG.random(shape, np.float32)
        fan_in = np.prod(shape[1:]) if len(shape) > 1 else 100
        return RNG.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / fan_in))

    return {n: drawn(n, s) for n, s in found_in.lpips_shapes().items()}


@pytest.fixture(scope="module")
def folder(tensors, tmp_path_factory):
    """The two files that a user would make, of either kind."""
    path = tmp_path_factory.mktemp("lpips")
    vgg = {n: a for n, a in tensors.items() if n.startswith("features")}
    save_file(vgg | {"classifier.6.bias": np.zeros(1000)}, path / "vgg16.safetensors")
    np.savez(path / "lin.npz", **{n: tensors[n] for n in tensors.keys() - vgg.keys()})
    return path


def colour(side=16, channels=3):
    x = RNG.integers(0, 256, (40, side, side, channels), dtype=np.uint8)
    return vaejax.from_arrays(x, np.arange(40) % 3)


def in_numpy(weights, x):
    """VGG16's five maps in float64: 3x3 convolutions as sums of shifted images."""
    x = np.repeat(x, 3 // x.shape[-1], -1).astype(float) * 2 - 1
    x = (x - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450]
    number, maps = 0, []
    for stage in ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3):
        if maps:
            b, h, w, c = x.shape
            x = x[:, : h // 2 * 2, : w // 2 * 2]
            x = x.reshape(b, h // 2, 2, w // 2, 2, c).max((2, 4))
            number += 1
        for outputs in stage:
            kernel = weights[f"features.{number}.weight"].astype(float)
            assert len(kernel) == outputs
            h, w = x.shape[1:3]
            padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            x = sum(
                padded[:, i : i + h, j : j + w] @ kernel[:, :, i, j].T
                for i in range(3)
                for j in range(3)
            )
            x = np.maximum(x + weights[f"features.{number}.bias"], 0)
            number += 2
        maps.append(x)
    return maps


def lpips_in_numpy(tensors, x, y):
    total = 0.0
    maps = zip(in_numpy(tensors, x), in_numpy(tensors, y), strict=True)
    for n, (a, b) in enumerate(maps):
        a, b = (v / (np.sqrt((v**2).sum(-1, keepdims=True)) + 1e-10) for v in (a, b))
        weighted = (a - b) ** 2 @ tensors[f"lin{n}.model.1.weight"].reshape(-1)
        total = total + weighted.mean((1, 2))
    return total


def test_lpips_is_its_definition_in_numpy(tensors, folder):
    """These images are grey; the evaluation below sees colours. In float32 a
    convolution of n products errs by some eps sqrt(n) of their size: below 1e-4 over
    13 layers.
    """
    lpips = found_in.lpips_perceptual(folder, colour(17, 1).spec)
    x, y = (RNG.random((2, 17, 16, 1), dtype=np.float32) for _ in range(2))
    for ours, theirs in zip(lpips.features(x), in_numpy(tensors, x), strict=True):
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * scale)
    expected = lpips_in_numpy(tensors, x, y)
    np.testing.assert_allclose(lpips.distance(x, y), expected, rtol=1e-4)
    np.testing.assert_array_equal(lpips.distance(x, x), 0)


def test_vgg16_has_the_published_size():
    """14.7 million numbers before its dense layers, which have 123.6 of the 138.4
    million that torchvision counts.
    """
    sizes = sum(int(np.prod(shape)) for shape in vgg_shapes().values())
    dense = 25_088 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 1000 + 1000
    assert sizes == 14_714_688 and sizes + dense == 138_357_544
    names = [n.split(".")[1] for n in vgg_shapes() if n.endswith("bias")]
    assert list(map(int, names)) == [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]


# --- distances ---------------------------------------------------------------------


def test_distances_of_known_features():
    """Orthogonal units differ by 2, opposite ones by 4; a factor makes no difference;
    places are averaged, layers summed, channels weighted.
    """
    a, b = jnp.asarray([[3.0, 0]]), jnp.asarray([[0, 0.1]])
    assert feature_distance([a], [b])[0] == pytest.approx(2, rel=4 * EPS)
    assert feature_distance([a], [-a])[0] == pytest.approx(4, rel=4 * EPS)
    assert feature_distance([a], [7 * a])[0] == pytest.approx(0, abs=4 * EPS)
    maps = jnp.stack([a, a], 1)[:, None], jnp.stack([a, b], 1)[:, None]
    assert maps[0].shape == (1, 1, 2, 2)
    assert feature_distance(*([m] for m in maps))[0] == pytest.approx(1, rel=4 * EPS)
    both = feature_distance((a, maps[0]), (b, maps[1]))
    assert both[0] == pytest.approx(3, rel=4 * EPS)
    weights = (jnp.asarray([0.25, 1.0]),)
    assert feature_distance([a], [b], weights)[0] == pytest.approx(1.25, rel=4 * EPS)


def test_features_that_are_all_zero_have_no_length_and_a_slope():
    zeros = jnp.zeros((1, 2, 2, 3))
    np.testing.assert_array_equal(unit_channels(zeros), 0)
    slope = jax.grad(lambda x: feature_distance([x], [zeros + 1]).sum())(zeros)
    assert np.isfinite(slope).all()


def frozen_slopes(perceptual, x, y):
    """The gradients of the distance by x, and by everything that is frozen."""

    def distance(x, weights, channels):
        fields = perceptual.name, "", perceptual.maps, weights, channels
        return Perceptual(*fields).distance(x, y).sum()

    at = x, perceptual.weights, perceptual.channels
    return jax.jit(jax.grad(distance, (0, 1, 2)))(*at)


def tiny_vgg():
    """Stages of few channels, whose ReLUs are open: the network is of any width."""
    weights, inputs = {}, 3
    for name in (n for n in vgg_shapes() if n.endswith("weight")):
        kernel = RNG.normal(0, 0.5 / np.sqrt(9 * inputs), (4, inputs, 3, 3))
        weights[name] = jnp.asarray(kernel, jnp.float32)
        bias = jnp.asarray(RNG.uniform(2, 4, 4), jnp.float32)
        weights[name.replace("weight", "bias")] = bias
        inputs = 4
    linear = tuple(jnp.asarray(RNG.random(4), jnp.float32) for _ in STAGES)
    return Perceptual("tiny", "", vgg_maps, weights, linear)


def test_slopes_reach_images_and_no_weights():
    x, y = (jnp.asarray(RNG.random((2, 16, 16, 1)), jnp.float32) for _ in range(2))
    tiny = tiny_vgg()
    slope, *frozen = frozen_slopes(tiny, x, y)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(frozen))
    direction = jnp.asarray(RNG.normal(size=x.shape), jnp.float32)

    def at(t):
        return float(tiny.distance(x + t * direction, y).sum())

    # Central differences: kinks of pools, and float32 rounding over 2 t.
    expected = (at(1e-2) - at(-1e-2)) / 2e-2
    assert float((slope * direction).sum()) == pytest.approx(expected, rel=0.05)
    assert abs(expected) > 0


def test_records_are_keys_by_identity():
    tiny, other = tiny_vgg(), tiny_vgg()
    assert {tiny: 1, other: 2}[tiny] == 1 and tiny != other


# --- from a run --------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A classifier and an autoencoder of the same images of 16 pixels."""
    root, split = tmp_path_factory.mktemp("runs"), colour().split("train")
    x = split["x"].reshape(-1, 16, 16, 3)
    np.savez(root / "named.npz", x_train=x, y_train=split["y"])
    common = {"dataset": f"npz:{root / 'named.npz'}", "batch_size": 16, "epochs": 1}
    judge = presets.classifier(**common, body="conv", hidden=(6,))
    model = presets.autoencoder(**common, hidden=(8,), latents=2)
    vaejax.train(judge, root / "classifier", quiet=True, devices=1)
    vaejax.train(model, root / "model", quiet=True, devices=1)
    return root


def test_a_classifier_gives_the_features_of_its_layers(runs):
    experiment, state = vaejax.load(runs / "classifier")
    spec = experiment.dataset.spec
    seen = found_in.classifier_perceptual(runs / "classifier", spec)
    assert seen.name.startswith("perceptual_classifier_") and len(seen.digest) == 16
    x, y = (jnp.asarray(RNG.random((2, 16, 16, 3)), jnp.float32) for _ in range(2))
    maps = seen.features(x)
    assert [m.shape for m in maps] == [(2, 8, 8, 32), (2, 4, 4, 64), (2, 6)]

    def judged(model):
        return model.classifier(x, {"x": x})

    expected = nn.apply(judged, experiment.model)(variables_of(state)).features[1:]
    jax.tree.map(np.testing.assert_array_equal, maps, tuple(expected))
    distance = seen.distance(x, y)
    assert (distance > 0).all() and (distance <= 4 * len(maps)).all()
    slope, *frozen = frozen_slopes(seen, x, y)
    assert (slope != 0).any()
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(frozen))


def test_an_evaluation_measures_lpips(runs, folder, tensors, monkeypatch):
    monkeypatch.setattr(commands, "try_report", lambda *run: None)
    once = EvaluationSettings(samples=1)
    commands.evaluate_run(runs / "model", once, Judges(lpips=folder))
    written = json.loads((runs / "model" / "evaluation.json").read_text())
    experiment, state = vaejax.load(runs / "model")
    x = experiment.dataset.split("test")["x"].reshape(-1, 16, 16, 3) / np.float32(255)
    y = np.clip(vaejax.reconstruct(experiment, state, x), 0, 1)
    expected = lpips_in_numpy(tensors, x, np.asarray(y))
    assert written["lpips"] == pytest.approx(expected.mean(), rel=1e-4)
    assert "lpips_se" in written
    digest = found_in.lpips_perceptual(folder, experiment.dataset.spec).digest
    assert written["lpips_digest"] == digest


# --- bad input ---------------------------------------------------------------------


def test_options_are_opened_or_refused(runs, folder):
    spec = colour().spec
    assert found_in.open_perceptual("", "", spec) is None
    assert found_in.open_perceptual("", str(folder), spec).name == "lpips"
    opened = found_in.open_perceptual(str(runs / "classifier"), "", spec)
    assert opened.channels is None
    for arguments, says in [
        ((str(runs / "classifier"), str(folder), spec), "give one of them"),
        ((str(runs / "model"), "", spec), "train a classifier"),
        ((str(runs / "classifier"), "", colour(8).spec), "those of .* are"),
        (("", str(folder), colour(15).spec), "at least 16 pixels"),
        (("", str(folder), colour(16, 2).spec), "one or three channels"),
        (("", str(folder / "nowhere"), spec), "no such folder: give a folder with"),
        (("", str(runs), spec), r"it lacks features\.0\.bias; .* and it has x_train"),
        (("", str(runs / "model"), spec), "has no weights: give a folder"),
    ]:
        with pytest.raises(InputError, match=says) as caught:
            found_in.open_perceptual(*arguments)
        assert "\n" not in str(caught.value)


def test_lpips_of_models_without_grey_images_is_refused(tmp_path, folder, tensors):
    experiment = presets.vae(dataset="mnist_5k", hidden=(8,), latents=2)  # of bits
    lpips = Perceptual("lpips", "", vgg_maps, tensors)
    with pytest.raises(InputError, match="--lpips is of reconstructed images"):
        found_in.with_perceptual_error(experiment, lpips)


class TestFiles:
    """Tensors without memory, with some of them changed."""

    def weights(self, **changed):
        shapes = found_in.lpips_shapes() | changed
        return {
            n: np.broadcast_to(np.float32(1), s)
            for n, s in shapes.items()
            if s is not None
        }

    @pytest.mark.parametrize(
        ("changed", "says"),
        [
            ({"features.7.bias": None}, "it lacks features.7.bias"),
            ({"lin3.model.1.weight": None}, "it lacks lin3.model.1.weight"),
            ({"features.0.weight": (64, 1, 3, 3)}, r"\[64, 3, 3, 3\], not \[64, 1"),
            ({"features.1.weight": (64,)}, "it has features.1.weight, too"),
        ],
    )
    def test_other_names_and_shapes_are_refused(self, tmp_path, changed, says):
        with pytest.raises(InputError, match=says) as caught:
            found_in.checked_lpips(self.weights(**changed), tmp_path)
        assert "\n" not in str(caught.value)

    def test_numbers_that_are_none_are_refused(self, tmp_path):
        broken = self.weights() | {"features.2.bias": np.full(64, np.nan)}
        with pytest.raises(InputError, match=r"features\.2\.bias is not finite"):
            found_in.checked_lpips(broken, tmp_path)

    def test_the_same_name_in_two_files_is_refused(self, tmp_path):
        for name in ("a", "b"):
            np.savez(tmp_path / f"{name}.npz", **{"features.0.bias": np.zeros(64)})
        with pytest.raises(InputError, match=r"has features\.0\.bias in two files"):
            found_in.read_lpips(tmp_path)

    def test_what_is_no_file_of_tensors_is_refused(self, tmp_path):
        (tmp_path / "a.safetensors").write_bytes(b"nothing")
        with pytest.raises(InputError, match=r"--lpips .* is no safetensors"):
            found_in.read_lpips(tmp_path)
        (tmp_path / "a.safetensors").unlink()
        (tmp_path / "a.npz").write_bytes(b"nothing")
        with pytest.raises(InputError, match=r"--lpips .* is no \.npz of arrays"):
            found_in.read_lpips(tmp_path)
