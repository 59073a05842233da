"""Second stages: latents as data, what binds them to their run, and decoded samples."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vaejax
from tests.npz import read_npz
from tests.test_scripts import call, refused
from vaejax import InputError, parallel, plots, presets
from vaejax.data import open_dataset
from vaejax.experiment import variables_of
from vaejax.samplers.record import state_digest
from vaejax.stages import encoding
from vaejax.stages.cache import FOLDER
from vaejax.stages.encoding import encode_rows, latents_of

from .latents import codes_of_digits

KEY = jax.random.key(4)
K = 8
SMALL = {"dataset": "digits", "batch_size": 64, "epochs": 1}
QUANTIZED = {"width": 8, "inner": 4, "blocks": 1, "codes": K, "code_channels": 3}
TRANSFORMER = {"layers": 1, "width": 8, "heads": 2, "labels": True, "batch_size": 64}
FLOW = {"hidden": (8,), "labels": True, "ode_steps": 2, "batch_size": 64, "epochs": 1}
ROUNDING = 1e-5
"""Rounding of some ten float32 operations on numbers below ten."""


def quantized(**settings):
    """A VQ-VAE of real pixels, whose encoder has no noise."""
    likelihood = {"likelihood": "gaussian_fixed", "binarize": "none"}
    return presets.vqvae(**SMALL | QUANTIZED | likelihood | settings)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with two first stages and a second stage of each."""
    folder = tmp_path_factory.mktemp("stages")
    vaejax.train(quantized(), folder / "vqvae", quiet=True)
    vae = presets.vae(**SMALL, hidden=(8,), latents=3)
    vaejax.train(vae, folder / "vae", quiet=True)
    prior = second(folder / "vqvae")
    vaejax.train(prior, folder / "prior", quiet=True)
    flow = presets.latent_flow(dataset=f"latents:{folder / 'vae'}", **FLOW)
    vaejax.train(flow, folder / "flow", quiet=True)
    return folder


def second(run, **settings):
    settings = TRANSFORMER | {"epochs": 1} | settings
    return presets.code_transformer(dataset=f"latents:{run}", **settings)


@pytest.fixture(scope="module")
def codes(runs):
    return open_dataset(f"latents:{runs / 'vqvae'}")


@pytest.fixture(scope="module")
def spoilt(runs, tmp_path_factory):
    """A copy of the first stage and its second, whose first stage has trained on."""
    tmp_path = tmp_path_factory.mktemp("spoilt")
    for name in ("vqvae", "prior"):
        shutil.copytree(runs / name, tmp_path / name)
    config = tmp_path / "prior" / "config.json"
    config.write_text(config.read_text().replace(str(runs), str(tmp_path)))
    vaejax.train(quantized(epochs=2), tmp_path / "vqvae", quiet=True)
    return tmp_path


def test_codes_decode_to_the_reconstructions(runs, codes):
    """The latents of all test examples, in their order, with their labels."""
    experiment, state = vaejax.load(runs / "vqvae")
    images = experiment.dataset.split("test")
    x = images["x"].reshape(-1, 8, 8, 1) / np.float32(255)
    wanted = vaejax.reconstruct(experiment, state, x)
    found = codes.split("test")
    assert found["x"].dtype == np.int32
    assert codes.spec.levels == K and codes.spec.shape == (2, 2, 1)
    maps = jnp.asarray(found["x"].reshape(-1, 2, 2, 1))
    values = experiment.model.apply(variables_of(state), maps, method="values_of")
    again = vaejax.decode(experiment, state, values)
    np.testing.assert_allclose(again, wanted, atol=ROUNDING)
    np.testing.assert_array_equal(found["y"], images["y"])


def test_vectors_are_a_table_in_the_units_of_the_training_split(runs):
    experiment, state = vaejax.load(runs / "vae")
    data = open_dataset(f"latents:{runs / 'vae'}")
    x = data.split("train")["x"]
    assert data.spec.kind == "table" and x.shape == (1438, 3)
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(x.std(0), 1, rtol=1e-5)
    stored = np.concatenate(
        [
            part["x"]
            for part in encode_rows(
                experiment, state, latents_of(experiment, state), "train", range(50)
            )
        ]
    )
    restored = x[:50] * np.array(data.spec.scale) + np.array(data.spec.mean)
    np.testing.assert_allclose(restored, stored, atol=ROUNDING)


def test_rows_that_are_encoded_apart_are_those_of_the_whole(runs):
    """Bits of images are drawn again for each, by a key of its own."""
    experiment, state = vaejax.load(runs / "vae")
    assert experiment.preprocess.values == "binary"
    latents = latents_of(experiment, state)

    def rows(start, stop):
        some = encode_rows(experiment, state, latents, "test", range(start, stop), 32)
        return np.concatenate([part["x"] for part in some])

    whole = rows(0, 80)
    apart = np.concatenate([rows(0, 50), rows(50, 80)])
    np.testing.assert_allclose(apart, whole, atol=ROUNDING)
    other = encode_rows(experiment, state, latents, "train", range(80), 32)
    assert not np.allclose(next(other)["x"], whole[:32], atol=0.1)


def test_latents_are_encoded_once_for_a_state(runs, codes, monkeypatch, capsys):
    place = next((runs / "vqvae" / FOLDER).iterdir())
    _, state = vaejax.load(runs / "vqvae")
    assert place.name == f"codes-{state_digest(state)}.npz"
    content = place.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(encoding, "encoded_batch", None)
        again = open_dataset(f"latents:{runs / 'vqvae'}")
    assert again.spec == codes.spec
    for split in codes.spec.sizes:
        for name, array in codes.split(split).items():
            np.testing.assert_array_equal(again.split(split)[name], array)
    place.write_bytes(content[:-100])
    assert open_dataset(f"latents:{runs / 'vqvae'}").spec == codes.spec
    assert "is damaged, and is made again" in capsys.readouterr().err
    assert read_npz(place).keys() == {"digest"} | {
        f"{split}/{name}" for split in ("train", "test") for name in "xy"
    }


def test_the_bits_of_equally_probable_codes_are_log2_k(runs):
    """With all parameters 0 each of the K codes has the same logit."""
    experiment, state = vaejax.load(runs / "prior")
    even = state._replace(params=jax.tree.map(jnp.zeros_like, state.params))
    found = vaejax.evaluate(experiment, even)
    assert np.isclose(found["bits_per_dim"], np.log2(K), rtol=ROUNDING)
    assert np.isclose(found["nll"], 4 * np.log(K), rtol=ROUNDING)


def one_line(ask, *words):
    with pytest.raises(InputError) as caught:
        ask()
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_first_stage_that_has_trained_on_is_refused(spoilt):
    """Resuming, evaluating and sampling tell both digests, in one line."""
    experiment, state = vaejax.load(spoilt / "prior")
    digest = experiment.dataset.spec.first.digest
    says = "is not the one that encoded the data", digest, "step 44", "step 22"
    one_line(lambda: vaejax.evaluate(experiment, state), *says)
    one_line(lambda: vaejax.decoded(experiment, state), *says)
    more = second(spoilt / "vqvae", epochs=2)
    one_line(lambda: vaejax.train(more, spoilt / "prior", quiet=True), *says)


def test_another_runs_codes_are_refused(runs, spoilt):
    experiment, state = vaejax.load(runs / "prior")
    other = second(spoilt / "vqvae")
    says = "holds another configuration: dataset latents:"
    one_line(lambda: vaejax.train(other, runs / "prior", quiet=True), says)
    stranger = spoilt / "vqvae"
    one_line(
        lambda: vaejax.decoded(experiment, state, first=stranger),
        f"the first stage {stranger} is not the one",
    )


def test_a_missing_first_stage_is_one_line(spoilt, capsys):
    (spoilt / "vqvae").rename(spoilt / "moved")
    said = refused(capsys, "sample", spoilt / "prior", "--out", spoilt / "x.png")
    (spoilt / "moved").rename(spoilt / "vqvae")
    assert "the first stage cannot be loaded" in said


def test_samples_are_what_the_first_stage_decodes(runs):
    """Of codes and of standardized vectors, by hand, from the same key."""
    given = {"y": np.arange(6)}
    for name, first in (("prior", "vqvae"), ("flow", "vae")):
        experiment, state = vaejax.load(runs / name)
        decoder = vaejax.load(runs / first)
        x = vaejax.sample(experiment, state, KEY, 6, given=given)
        if name == "prior":
            values = variables_of(decoder[1])
            z = decoder[0].model.apply(values, x, method="values_of")
        else:
            z = experiment.preprocess.restore(np.asarray(x))
        both = vaejax.decoded(experiment, state)
        found = vaejax.sample(*both, KEY, 6, given=given)
        np.testing.assert_allclose(found, vaejax.decode(*decoder, z), atol=ROUNDING)
        assert both[0].dataset.spec == decoder[0].dataset.spec
        assert vaejax.decoded(*both)[0] is both[0]


def test_the_command_samples_in_the_units_of_the_first_stage(runs, tmp_path, capsys):
    out = tmp_path / "x.npz"
    call("sample", runs / "prior", "--num", 4, "--label", 3, 5, "--out", out)
    found = read_npz(out)
    assert found["x"].dtype == np.uint8 and found["x"].shape == (4, 8, 8, 1)
    assert found["y"].tolist() == [3, 5, 3, 5]
    moved = tmp_path / "elsewhere"
    shutil.copytree(runs / "vqvae", moved)
    call(*("sample", runs / "prior", "--num", 4, "--label", 3, 5, "--out", out))
    again = read_npz(out)["x"]
    np.testing.assert_array_equal(again, found["x"])
    call(
        *("sample", runs / "prior", "--num", 4, "--label", 3, "--top-k", 1),
        *("--first", moved, "--out", out),
    )
    only = read_npz(out)["x"]
    np.testing.assert_array_equal(only, only[:1].repeat(4, 0))
    capsys.readouterr()
    said = refused(capsys, "sample", runs / "flow", "--top-k", 1, "--out", out)
    assert "--top-k is of models of codes" in said


def test_pictures_are_decoded(runs):
    names = set()
    for run in ("prior", "flow"):
        experiment, state = vaejax.load(runs / run)
        there = plots.applicable(experiment, state)
        names |= set(there)
        assert "samples" in there and "classes" in there
        assert "reconstructions" not in there
    assert "labels" in names


@pytest.mark.parametrize(
    ("preset", "settings", "says"),
    [
        ("vae", {"hidden": (8,)}, "does not fit codes data: choose code_transformer"),
        ("vae", {"likelihood": "bernoulli"}, "choose code_transformer"),
        ("gan", {}, "choose code_transformer"),
        ("latent_flow", {}, "choose code_transformer|needs images"),
        ("classifier", {}, "code"),
        ("code_transformer", {"binarize": "dynamic"}, "--binarize and --dequantize"),
        ("code_transformer", {"dequantize": True}, "--binarize and --dequantize"),
        ("code_transformer", {"hide": "quadrant"}, "--hide quadrant needs images"),
        ("code_transformer", {"top_k": 9}, "top_k|top-k"),
        ("code_transformer", {"image_size": 4}, "--image-size"),
    ],
)
def test_codes_are_not_pictures(preset, settings, says):
    make = presets.PRESETS[preset]
    with pytest.raises(InputError, match=says) as caught:
        make(dataset=codes_of_digits(), **settings)
    assert "\n" not in str(caught.value)


def test_pictures_are_no_codes():
    with pytest.raises(InputError, match="give --dataset latents:RUN"):
        presets.code_transformer(dataset="digits")


def test_what_has_no_latents_opens_no_data(runs, tmp_path):
    one_line(lambda: open_dataset(f"latents:{tmp_path}"), "is not a run")
    one_line(lambda: open_dataset(f"latents:{runs / 'prior'}"), "no encoder")
    one_line(lambda: open_dataset(f"latents:{runs / 'flow'}"), "no encoder")


@pytest.mark.devices
def test_latents_do_not_depend_on_the_number_of_devices(runs, monkeypatch):
    experiment, state = vaejax.load(runs / "vqvae")
    latents = latents_of(experiment, state)
    found = []
    for count in (1, 4):
        mesh = parallel.make_mesh(count, 32)
        monkeypatch.setattr(parallel, "local_mesh", lambda size, mesh=mesh: mesh)
        parts = encode_rows(experiment, state, latents, "test", range(50), 32)
        found.append(np.concatenate([part["x"] for part in parts]))
    np.testing.assert_array_equal(*found)
