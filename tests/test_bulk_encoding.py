"""Encoding a whole data set into shards: resumed, opened, scaled, and by diffusers."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import vaejax
from tests.npz import read_npz
from tests.test_scripts import call, refused
from vaejax import InputError, parallel, presets
from vaejax.data import open_dataset
from vaejax.sharing.diffusers import from_diffusers
from vaejax.stages import bulk
from vaejax.training.loop import first_state

WRITTEN = Path(__file__).parent / "fixtures" / "diffusers.zip"
ROUNDING = 1e-5
"""Rounding of some ten float32 operations on numbers below ten."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bulk") / "vae"
    settings = {"dataset": "digits", "hidden": (8,), "latents": 3, "epochs": 1}
    vaejax.train(presets.vae(**settings), folder, quiet=True)
    return folder


def encode(place, data, out, *words):
    call("encode", place, "--data", data, "--out", out, *words)


def arrays_in(folder):
    return {path.name: read_npz(path) for path in sorted(folder.glob("*.npz"))}


def assert_equal(found, wanted):
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.fixture(scope="module")
def whole(run):
    """All latents of digits, bits of which the encoder sees, encoded at once."""
    out = run.parent / "whole"
    encode(run, "digits", out, "--shard-rows", 500)
    return out


def test_shards_hold_all_examples_in_their_order(run, whole):
    """Those that `latents:RUN` encodes, with the labels of the data."""
    found = arrays_in(whole)
    assert [(n, len(a["x"])) for n, a in found.items()] == [
        ("test-00000-of-00001.npz", 359),
        ("train-00000-of-00003.npz", 500),
        ("train-00001-of-00003.npz", 500),
        ("train-00002-of-00003.npz", 438),
    ]
    data, ours = (open_dataset(f"latents:{place}") for place in (run, whole))
    assert ours.spec.digest == data.spec.digest
    for split in data.spec.sizes:
        for name, array in data.split(split).items():
            close = {"atol": ROUNDING}
            np.testing.assert_allclose(ours.split(split)[name], array, **close)


def test_a_killed_encoding_goes_on_as_if_it_had_not_been(
    run, whole, tmp_path, monkeypatch, capsys
):
    """After two shards, and within the third, which leaves no trace."""
    written, write = [], bulk.write_shard

    def killed(path, arrays):
        written.append(path)
        if len(written) == 3:
            raise KeyboardInterrupt
        write(path, arrays)

    out, settings = tmp_path / "out", bulk.BulkSettings("digits", shard_rows=500)
    with monkeypatch.context() as patch:
        patch.setattr(bulk, "write_shard", killed)
        with pytest.raises(KeyboardInterrupt):
            bulk.encode_bulk(str(run), out, settings)
    times = {path: path.stat().st_mtime_ns for path in written[:2]}
    assert {path.name for path in out.iterdir()} == {
        "manifest.json",
        *(path.name for path in times),
    }
    with pytest.raises(InputError, match="is missing: run the same encode"):
        open_dataset(f"latents:{out}")
    encode(run, "digits", out, "--shard-rows", 500)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert_equal(arrays_in(out), arrays_in(whole))
    capsys.readouterr()
    said = refused(
        capsys, "encode", run, "--data", "digits", "--out", out, "--shard-rows", 400
    )
    assert "latents of another command, which differ in shard_rows" in said


def test_hidden_layers_in_bf16_round_and_the_folder_says_so(
    run, whole, tmp_path, capsys
):
    out, words = tmp_path / "out", ("--shard-rows", 500)
    encode(run, "digits", out, *words, "--precision", "bf16")
    found, wanted = (bulk.open_folder_of_latents(each) for each in (out, whole))
    assert [m.precision for m, _ in (found, wanted)] == ["bf16", "f32"]
    encoder = vaejax.load(run)[1].params["encoder"]
    hidden = encoder["body"]["mlp"]["Dense_0"]
    sums = np.abs(hidden["kernel"]).sum(0) + np.abs(hidden["bias"])
    # Weights, sums, biases and a unit's value, each rounded to 8 bits; x are bits.
    of_units = 4 * 2.0**-9 * (sums + 1)
    bound = (of_units @ np.abs(encoder["Dense_0"]["kernel"])).max()
    apart = np.abs(found[1]["test"]["x"] - wanted[1]["test"]["x"])
    assert 1e-3 * bound < apart.max() <= bound  # far more than float32 rounds
    capsys.readouterr()
    said = refused(capsys, "encode", run, "--data", "digits", "--out", out, *words)
    assert "which differ in precision" in said


def test_folders_from_before_precision_was_a_setting_are_of_float32(whole, tmp_path):
    older = shutil.copytree(whole, tmp_path / "older")
    manifest = json.loads((older / "manifest.json").read_text())
    del manifest["precision"]
    (older / "manifest.json").write_text(json.dumps(manifest))
    assert bulk.open_folder_of_latents(older)[0].precision == "f32"


def test_records_hold_what_arrays_hold(run, whole, tmp_path):
    out = tmp_path / "out"
    encode(run, "digits", out, "--shards", "array_record", "--shard-rows", 500)
    found, wanted = (bulk.open_folder_of_latents(each)[1] for each in (out, whole))
    assert_equal(found, wanted)
    record = out / "train-00002-of-00003.array_record"
    record.write_bytes(record.read_bytes()[:-2000])
    with pytest.raises(InputError, match="is damaged: delete it"):
        open_dataset(f"latents:{out}")


def test_other_data_are_in_the_units_of_training(run, tmp_path):
    """Images of two levels are 0 and 255 where training had 256."""
    digits = open_dataset("digits")
    x = digits.split("train")["x"].reshape(-1, 8, 8)
    bits = (x > 127).astype(np.uint8)
    np.savez(tmp_path / "two.npz", x_train=bits[:60])
    np.savez(tmp_path / "grey.npz", x_train=255 * bits[:60], x_test=x[:5])
    encode(run, f"npz:{tmp_path / 'two.npz'}", tmp_path / "two")
    found = bulk.open_folder_of_latents(tmp_path / "two")[1]
    assert found["train"]["x"].shape == (54, 3)  # a tenth is held out
    pixels = []
    for name in ("two", "grey"):
        experiment, _ = bulk.open_first(str(run), f"npz:{tmp_path / name}.npz")
        assert experiment.dataset.spec.levels == 256
        splits = experiment.dataset.spec.sizes
        pixels += [np.concatenate([experiment.dataset.split(s)["x"] for s in splits])]
    wanted = 255 * bits[:60].reshape(60, -1)
    order = [np.lexsort(each.T) for each in (*pixels, wanted)]
    np.testing.assert_array_equal(pixels[0][order[0]], wanted[order[2]])
    np.testing.assert_array_equal(pixels[1][:60], wanted)
    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, x_train=np.zeros((30, 4, 4), np.uint8))
    with pytest.raises(InputError, match=r"images of 8 x 8 x 1: npz:.*: resize them"):
        bulk.open_first(str(run), f"npz:{wrong}")
    np.savez(wrong, x_train=np.zeros((30, 8, 8, 3), np.uint8))
    with pytest.raises(InputError, match=r"8 x 8 x 3: save them in grey, by .*'L'"):
        bulk.open_first(str(run), f"npz:{wrong}")


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """Autoencoders that diffusers wrote, and images that they read."""
    folder = tmp_path_factory.mktemp("colours")
    shutil.unpack_archive(WRITTEN, folder)
    x = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
    np.savez(folder / "images.npz", x_train=x[:14], x_test=x[14:])
    return folder, x


def test_autoencoders_of_diffusers_encode_and_decode(colours):
    """Scaled latents are those times the factor, and open like plain ones."""
    folder, x = colours
    data = f"npz:{folder / 'images.npz'}"
    encode(folder / "kl", data, folder / "plain", "--batch-size", 4)
    encode(folder / "kl", data, folder / "scaled", "--scaled", "--batch-size", 4)
    found = from_diffusers(folder / "kl")
    images = 2 * np.float32(x[14:]) / 255 - 1
    means = jax.jit(lambda v, x: found.module.apply(v, x, method="encode"))(
        found.variables, images
    )
    test = "test-00000-of-00001.npz"
    close = {"rtol": 1e-4, "atol": 1e-4}
    np.testing.assert_allclose(arrays_in(folder / "plain")[test]["x"], means, **close)
    np.testing.assert_allclose(
        arrays_in(folder / "scaled")[test]["x"], found.scaled(means), **close
    )
    manifest = json.loads((folder / "scaled" / "manifest.json").read_text())
    factor, shift = found.scaling_factor, found.shift_factor
    assert np.allclose(manifest["scaling"]["factor"], factor)
    assert np.allclose(manifest["scaling"]["shift"], shift)
    assert manifest["scaling"]["applied"]
    one, other = (open_dataset(f"latents:{folder / n}") for n in ("plain", "scaled"))
    assert one.spec.kind == "latent map"
    np.testing.assert_allclose(
        one.split("test")["x"], other.split("test")["x"], **close
    )


@pytest.mark.slow
def test_second_stages_of_diffusers_codes_are_decoded(colours, capsys):
    folder, _ = colours
    data = f"npz:{folder / 'images.npz'}"
    encode(folder / "vq", data, folder / "codes", "--batch-size", 4)
    experiment = presets.code_transformer(
        dataset=f"latents:{folder / 'codes'}", layers=1, width=8, heads=2, batch_size=8
    )
    state = first_state(experiment, parallel.make_mesh(1, 8))
    codes = vaejax.sample(experiment, state, jax.random.key(0), 3)
    both = vaejax.decoded(experiment, state)
    x = vaejax.sample(*both, jax.random.key(0), 3)
    found = from_diffusers(folder / "vq")

    def decoded(variables, codes):
        module = found.module.bind(variables)
        return module.decode(module.values_of(codes))

    wanted = np.clip((jax.jit(decoded)(found.variables, codes) + 1) / 2, 0, 1)
    np.testing.assert_allclose(x, wanted, atol=1e-4)
    capsys.readouterr()
    out = folder / "none"
    for words, says in (
        (
            ("--data", "digits"),
            "3 channels: those of digits have 1: save them in colour",
        ),
        (("--data", data, "--image-size", 15), "--image-size"),
        (("--data", data, "--scaled"), "these are codes"),
        (("--data", data, "--input", "a.npz"), "give either --input FILE or --data"),
        (("--input", "a.npz", "--scaled"), "are of --data"),
    ):
        assert says in refused(capsys, "encode", folder / "vq", *words, "--out", out)
    assert not out.exists()
