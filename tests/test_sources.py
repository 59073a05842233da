"""Where features come from: random networks, functions, files, and Inception's weights.

Inception's numbers are compared with PyTorch's by `make test-peers`.
"""

import json

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
from vaejax.metrics import compare_features, fid
from vaejax.metrics.inception import BLOCKS, Inception, Pool, pool_of, resized
from vaejax.metrics.own_features import compare_file, name_of_file
from vaejax.metrics.quantities import OF_SAMPLES, meaning_of
from vaejax.metrics.sources import (
    compare_samples,
    drawn_samples,
    held_out_units,
    random_features,
)

RNG = np.random.default_rng(0)
NO_DRAWS = EvaluationSettings(samples=0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A VAE of bits, which are drawn of the grey levels that samples are."""
    folder = tmp_path_factory.mktemp("sources") / "vae"
    experiment = presets.vae(dataset="digits", hidden=(8,), latents=2, epochs=1)
    return folder, experiment, vaejax.train(experiment, folder, quiet=True, devices=1)


def pixels(x):
    """A user's function: a few grey levels."""
    assert x.dtype == np.uint8 and x.shape[1:] == (8, 8, 1)
    return x[:, 2:6, 3:5].reshape(len(x), -1)


def test_a_users_function_sees_grey_levels_of_data_and_samples(run):
    """Not the bits that the model is trained on, nor its units."""
    _, experiment, state = run
    found = compare_samples(experiment, state, pixels, name="few", num=60)
    test = experiment.dataset.split("test")["x"].reshape(-1, 8, 8, 1)
    real = held_out_units(experiment, 60)
    assert {x.tobytes() for x in real} <= {x.tobytes() for x in test}
    (means,) = drawn_samples(experiment, state, 60, seed=0)
    grey = np.round(np.clip(means, 0, 1) * 255).astype(np.uint8)
    expected = compare_features(pixels(real), pixels(grey), "few")
    assert found == expected | {"generated_few": 60, "compared_with_few": 60}
    for name in found:
        assert meaning_of(OF_SAMPLES, name), name


def test_data_seen_as_samples_are_at_no_distance(run):
    """Given the same images, both sides go one way: all distances are those of equal
    sets.
    """
    source = random_features(run[1].dataset.spec)
    real = held_out_units(run[1], 100)
    found = compare_features(source.extract(real), source.extract(real.copy()), "x")
    assert found["fd_x"] == pytest.approx(0, abs=1e-6)
    assert found["precision_x"] == found["recall_x"] == found["coverage_x"] == 1


def test_random_features_are_the_same_everywhere_and_named_by_their_weights(run):
    spec = run[1].dataset.spec
    source = random_features(spec)
    assert source.digest == "3029dec757de9b94"  # of NumPy's integers: to the bit
    assert source.name == "random_3029de"
    others = [
        random_features(spec, seed=1),
        random_features(spec._replace(shape=(8, 8, 3))),
        random_features(spec._replace(shape=(28, 28, 1))),
    ]
    assert len({each.name for each in (source, *others)}) == 4
    x = RNG.integers(0, 256, (30, 8, 8, 1), dtype=np.uint8)
    seen = np.asarray(source.extract(x))
    assert seen.shape == (30, 64)
    np.testing.assert_array_equal(seen, random_features(spec).extract(x))
    # He's variance keeps the scale of noise through layers of ReLUs, but for padding,
    # whose zeros are most of what the last ones see of images so small.
    assert 0.1 < seen.std() / np.std(x / 127.5 - 1) < 1


BAD_FUNCTIONS = [
    (lambda x: x, "few", "return \\[examples, features\\]"),
    (lambda x: pixels(x)[:-1], "few", "return \\[examples, features\\]"),
    (lambda x: pixels(x) * np.nan, "few", "not all finite"),
    (lambda x: np.ones((len(x), 2)), "few", "all equal"),
    (pixels, "a-b", "give letters"),
    (np.ones((60, 3)), "few", "arrays to compare_features"),
]


@pytest.mark.parametrize(("function", "name", "says"), BAD_FUNCTIONS)
def test_what_is_no_function_of_examples_is_refused(run, function, name, says):
    with pytest.raises(InputError, match=says):
        compare_samples(*run[1:], function, name=name, num=20)


def test_what_cannot_be_compared_is_refused(run):
    _, experiment, state = run
    spec = experiment.dataset.spec
    with pytest.raises(InputError, match="--num is 1: it must be at least 2"):
        compare_samples(experiment, state, pixels, num=1)
    table = spec._replace(kind="table", shape=(64,), name="wine")
    with pytest.raises(InputError, match="the random features needs images: wine"):
        random_features(table)
    with pytest.raises(InputError, match="--inception needs images: wine"):
        fid.inception_features(run[0] / "x.npz", table)
    with pytest.raises(InputError, match="one or three channels"):
        fid.inception_features(run[0] / "x.npz", spec._replace(shape=(8, 8, 4)))
    holes = presets.miwae(dataset="digits", hide="mcar", hidden=(8,), latents=2)
    with pytest.raises(InputError, match="has holes"):
        held_out_units(holes, 3)


def write_features(path, **arrays):
    sets = {"real": RNG.normal(size=(30, 4)), "generated": RNG.normal(size=(20, 4))}
    np.savez(path, **{n: a for n, a in (sets | arrays).items() if a is not None})
    return path


def test_features_of_a_file_are_named_by_it(tmp_path):
    path = write_features(tmp_path / "CLIP, ViT-B.npz")
    found = compare_file(path)
    with np.load(path) as file:
        expected = compare_features(file["real"], file["generated"], "clip_vit_b")
    assert expected.items() <= found.items()
    assert (found["generated_clip_vit_b"], found["compared_with_clip_vit_b"]) == (
        20,
        30,
    )
    other = compare_file(write_features(tmp_path / "other.npz"))
    assert found["clip_vit_b_digest"] != other["other_digest"]
    assert name_of_file(tmp_path / "-.npz") == "file"


def test_an_evaluation_by_random_features_and_a_file_is_written(
    run, tmp_path, monkeypatch
):
    monkeypatch.setattr(commands, "try_report", lambda *run: None)
    folder = run[0]
    for features in ("random", str(write_features(tmp_path / "mine.npz"))):
        commands.evaluate_run(folder, NO_DRAWS, Judges(num=20, features=features))
        written = json.loads((folder / "evaluation.json").read_text())
        source = "random_3029de" if features == "random" else "mine"
        for name in ("fd", "kd", "precision", "recall", "density", "coverage"):
            assert f"{name}_{source}" in written
        assert written[f"generated_{source}"] == 20
        assert len(written[f"{source}_digest"]) == 16


def no_file(path):
    return path


def no_archive(path):
    path.write_bytes(b"PK nothing")
    return path


OBJECTS = np.array([{}] * 30)
BAD_FILES = [
    (no_file, "there is no such file"),
    (no_archive, "give an .npz with real and generated"),
    (lambda p: write_features(p, real=None), "has no real"),
    (lambda p: write_features(p, real=OBJECTS), "give an .npz with real"),
    (lambda p: write_features(p, generated=np.ones((3, 4))), "too few"),
    (lambda p: write_features(p, generated=np.ones(30)), "give numbers"),
]


@pytest.mark.parametrize(("write", "says"), BAD_FILES)
def test_files_without_features_are_refused_before_anything_is_measured(
    run, tmp_path, write, says
):
    path = write(tmp_path / "features.npz")
    with pytest.raises(InputError, match=says) as caught:
        commands.evaluate_run(run[0], NO_DRAWS, Judges(features=str(path)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("features", ["fid", "KID", "inception"])
def test_without_weights_one_line_says_what_to_bring(run, features):
    with pytest.raises(InputError, match="bring those of torch-fidelity"):
        commands.evaluate_run(run[0], NO_DRAWS, Judges(features=features))


def test_an_unknown_source_is_refused(run):
    with pytest.raises(InputError, match="give random, or the name"):
        commands.evaluate_run(run[0], NO_DRAWS, Judges(features="clip"))
    with pytest.raises(InputError, match="--num is 6: it must be at least 7"):
        commands.evaluate_run(run[0], NO_DRAWS, Judges(num=6, features="random"))


@pytest.fixture(scope="module")
def shapes():
    return fid.expected_shapes()


class TestInception:
    """Its shapes, its parts, and files of its weights."""

    def weights(self, shapes, **changed):
        """Tensors without memory, with some shapes changed."""
        shapes = {n: s for n, s in (shapes | changed).items() if s is not None}
        return {n: np.broadcast_to(np.float32(1), s) for n, s in shapes.items()}

    def test_it_has_the_published_size(self, shapes):
        """94 convolutions; with the last layer of 1008 classes 23.9 million numbers
        [Szegedy et al. 2016 have "less than 25 million"], of which batch norms have
        34,464 twice, and their statistics as many.
        """
        convolutions = [s for n, s in shapes.items() if n.endswith("conv.weight")]
        norms = [s for n, s in shapes.items() if n.endswith("running_var")]
        assert len(convolutions) == len(norms) == 94
        assert sum(s[0] for s in norms) == 17_216
        assert sum(int(np.prod(s)) for s in convolutions) == 21_751_136
        assert len(BLOCKS) == 11
        assert shapes["Mixed_7c.branch3x3dbl_3b.conv.weight"] == (384, 384, 3, 1)

    def test_any_size_of_images_has_2048_features(self):
        network = Inception()
        x = jax.ShapeDtypeStruct((2, 8, 9, 3), jnp.uint8)
        found, _ = jax.eval_shape(network.init_with_output, jax.random.key(0), x)
        assert found.shape == (2, 2048)

    def test_images_are_resized_without_a_filter(self):
        """Pixel by pixel, from 4 x 3 to 7 x 7 and from 9 x 12 to 7 x 7."""

        def one(image, i, j):
            at = [
                k * np.float32(n / 7) for k, n in zip((i, j), image.shape, strict=True)
            ]
            (a, b), (s, t) = np.floor(at).astype(int), at - np.floor(at)
            c, d = min(a + 1, image.shape[0] - 1), min(b + 1, image.shape[1] - 1)
            top = image[a, b] * (1 - t) + image[a, d] * t
            return top * (1 - s) + (image[c, b] * (1 - t) + image[c, d] * t) * s

        for shape in ((4, 3), (9, 12)):
            image = RNG.integers(0, 256, shape, dtype=np.uint8)
            expected = [
                [one(image.astype(float), i, j) for j in range(7)] for i in range(7)
            ]
            found = resized(jnp.asarray(image)[None, :, :, None], 7)[0, :, :, 0]
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-3)

    def test_pools_leave_padding_out(self):
        x = jnp.ones((1, 4, 4, 1)).at[0, 0, 0, 0].set(10.0)
        mean, most = pool_of(Pool(mean=True), x), pool_of(Pool(), -x)
        np.testing.assert_allclose(mean[0, 0, 0, 0], (10 + 3) / 4)  # of four, not nine
        np.testing.assert_allclose(mean[0, 3, 3, 0], 1)
        np.testing.assert_allclose(most, -1)  # a padding of zeros would be larger
        assert pool_of(Pool(stride=2), x).shape == (1, 1, 1, 1)

    def test_a_file_of_weights_is_checked(self, shapes, tmp_path):
        path = tmp_path / "w.npz"
        counted = {"Conv2d_1a_3x3.bn.num_batches_tracked": ()}
        found = fid.checked_weights(self.weights(shapes, **counted), path)
        assert found.keys() == shapes.keys() - fid.HEAD.keys()
        name = "Mixed_5b.branch1x1.conv.weight"
        cases = [
            ({"fc.weight": (1000, 2048), "fc.bias": (1000,)}, "torchvision's"),
            ({name: None}, f"it lacks {name}"),
            ({name: (64, 192, 3, 3)}, r"\[64, 192, 1, 1\], not \[64, 192, 3, 3\]"),
            ({"AuxLogits.fc.bias": (1000,)}, "it has AuxLogits.fc.bias, too"),
        ]
        for changed, says in cases:
            with pytest.raises(InputError, match=says) as caught:
                fid.checked_weights(self.weights(shapes, **changed), path)
            assert "\n" not in str(caught.value)
        broken = self.weights(shapes) | {name: np.full(shapes[name], np.nan)}
        with pytest.raises(InputError, match=f"{name} is not finite"):
            fid.checked_weights(broken, path)

    def test_both_kinds_of_files_have_one_digest(self, tmp_path):
        tensors = {"b": RNG.normal(size=(2, 3)), "a": np.float32([1, 2])}
        np.savez(tmp_path / "w.npz", **tensors)
        save_file(tensors, tmp_path / "w.safetensors")
        first = fid.weights_from_npz(tmp_path / "w.npz")
        second = fid.weights_from_safetensors(tmp_path / "w.safetensors")
        assert fid.weights_digest(first) == fid.weights_digest(second)
        other = first | {"a": np.float32([1, 3])}
        assert fid.weights_digest(first) != fid.weights_digest(other)

    @pytest.mark.parametrize("name", ["w.pth", "w.npz", "w.safetensors", "none.npz"])
    def test_other_files_are_refused_unopened(self, tmp_path, name):
        path = tmp_path / name
        if name != "none.npz":
            path.write_bytes(b"\x80\x04pickle")
        says = "a pickle, which is not opened|is no|there is no such file"
        with pytest.raises(InputError, match=says) as caught:
            fid.read_weights(path)
        assert "\n" not in str(caught.value)

    def test_images_are_seen_a_few_at_a_time_in_colour(self):
        """Grey as three equal channels, each image once and in its order."""
        shapes = []

        def see(x):
            shapes.append(x.shape)
            return x.reshape(len(x), -1)

        grey = RNG.integers(0, 256, (60, 2, 2, 1), dtype=np.uint8)
        found = fid.in_chunks(see, fid.in_colour(grey))
        np.testing.assert_array_equal(found.reshape(60, 2, 2, 3), grey.repeat(3, -1))
        assert shapes == [(fid.CHUNK, 2, 2, 3)] * 3
