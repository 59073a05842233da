"""Autoencoders of diffusers: its own files and numbers, and one line for other files.

`fixtures/diffusers.zip` holds two folders that diffusers 0.42.1 wrote, and what its
PyTorch modules made of images; `peers/fixture.py` wrote it. `make test-peers` compares
more shapes, of which one is Stable Diffusion's.
"""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.npz import read_npz
from vaejax.errors import InputError
from vaejax.sharing.diffusers import (
    WEIGHTS,
    DiffusersAutoencoder,
    abstract_params,
    foreign_shapes,
    from_diffusers,
    to_diffusers,
)
from vaejax.sharing.diffusers_config import (
    KLConfig,
    diffusers_config_of,
    read_diffusers_config,
)

WRITTEN = Path(__file__).parent / "fixtures" / "diffusers.zip"
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("diffusers")
    shutil.unpack_archive(WRITTEN, folder)
    return folder


@pytest.fixture
def kl(folders, tmp_path):
    """A folder of an `AutoencoderKL` to be spoilt."""
    for name in ("config.json", WEIGHTS):
        (tmp_path / name).write_bytes((folders / "kl" / name).read_bytes())
    return tmp_path


@pytest.mark.parametrize("name", ["kl", "vq"])
def test_weights_of_diffusers_give_its_numbers(folders, name):
    """Latents, their deviations or codes, and images, within 1e-4."""
    found = from_diffusers(folders / name)
    expected = read_npz(folders / name / "expected.npz")

    @jax.jit
    def computed(variables, x, z):
        def run(method, given):
            return found.module.apply(variables, given, method=method)

        if name == "kl":
            q = run("posterior", x)
            more = {"scale": q.scale, "z": run("encode", x)}
        else:
            more = {"codes": run("codes_of", x), "z": run("encode", x)}
        return {"decoded": run("decode", z), **more}

    ours = computed(found.variables, *(jnp.asarray(expected[n]) for n in "xz"))
    for kind, value in ours.items():
        np.testing.assert_allclose(value, expected[kind], err_msg=kind, **CLOSE)
    leaves = jax.tree.leaves(found.variables)
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", ["kl", "vq"])
def test_what_is_written_is_read_again(folders, tmp_path, name):
    """Every number and setting; names are those of today."""
    found = from_diffusers(folders / name)
    to_diffusers(tmp_path / "out", found)
    again = from_diffusers(tmp_path / "out")
    assert again.config == found.config
    assert again.module == found.module
    jax.tree.map(np.testing.assert_array_equal, again.variables, found.variables)
    configs = [
        json.loads((at / "config.json").read_text())
        for at in (folders / name, tmp_path / "out")
    ]
    assert configs[0] == configs[1]
    names = load_file(tmp_path / "out" / WEIGHTS).keys()
    assert "decoder.mid_block.attentions.0.to_out.0.weight" in names
    assert not any("proj_attn" in each for each in names)
    with pytest.raises(InputError, match="empty or not there"):
        to_diffusers(tmp_path / "out", found)


@pytest.mark.parametrize("name", ["kl", "vq"])
def test_networks_are_described_as_diffusers_does(folders, name):
    """The configuration of the module is the one that the module was made of."""
    found = from_diffusers(folders / name)
    settings = {"scaling_factor": found.scaling_factor}
    if name == "kl":
        settings["shift_factor"] = found.shift_factor
    encoder = found.module.encoder
    trained = encoder.sizes._replace(dropout=0.1, remat=True)
    module = found.module.clone(encoder=encoder.clone(sizes=trained))
    assert diffusers_config_of(module, 3, **settings) == found.config
    for wrong in (
        encoder.clone(sizes=trained._replace(groups=1)),
        encoder.clone(projected=7),
        encoder.clone(outputs=7),
    ):
        with pytest.raises(InputError, match="diffusers has no FeatureMap"):
            diffusers_config_of(found.module.clone(encoder=wrong), 3, **settings)


def test_latents_are_scaled_as_diffusion_models_take_them(folders):
    """(z - shift) * factor, or by the channel's mean and deviation, and back."""
    found = from_diffusers(folders / "kl")
    assert (found.scaling_factor, found.shift_factor) == (0.18215, 0.25)
    z = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 3, 3)), jnp.float32)
    np.testing.assert_allclose(found.scaled(z), (z - 0.25) * 0.18215, rtol=1e-5)
    np.testing.assert_allclose(found.unscaled(found.scaled(z)), z, rtol=1e-5, atol=1e-6)
    mean, deviation = (0.5, 1.0, 0.0), (2.0, 4.0, 1.0)
    config = found.config._replace(latents_mean=mean, latents_std=deviation)
    found = found._replace(config=config)
    expected = (np.asarray(z) - mean) * 0.18215 / deviation
    np.testing.assert_allclose(found.scaled(z), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.unscaled(found.scaled(z)), z, rtol=1e-5, atol=1e-6)
    vq = from_diffusers(folders / "vq")
    assert vq.shift_factor is None
    np.testing.assert_allclose(vq.scaled(z), z * 0.18215, rtol=1e-5)


def test_bfloat16_becomes_float32(kl):
    tensors = load_file(kl / WEIGHTS)
    rounded = {n: a.astype(ml_dtypes.bfloat16) for n, a in tensors.items()}
    save_file(rounded, kl / WEIGHTS)
    kernel = from_diffusers(kl).variables["params"]["encoder"]["conv_in"]["kernel"]
    assert kernel.dtype == jnp.float32
    wanted = rounded["encoder.conv_in.weight"].astype(np.float32)
    np.testing.assert_array_equal(kernel, wanted.transpose(2, 3, 1, 0))


F8 = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.4.2",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 256,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
"""Stable Diffusion's, as a version of diffusers wrote it that had fewer settings."""


@pytest.mark.parametrize(
    ("later", "tensors", "parameters"),
    [
        ({}, 248, 83_653_863),
        (
            {"latent_channels": 16, "use_quant_conv": False}
            | {"use_post_quant_conv": False, "scaling_factor": 1.5305}
            | {"shift_factor": 0.0609, "force_upcast": True, "_name_or_path": "../vae"},
            244,
            83_819_683,
        ),
    ],
    ids=["4 channels", "16 channels"],
)
def test_names_of_stable_diffusions_autoencoder(tmp_path, later, tensors, parameters):
    """Also of its third edition, which has no convolutions beside the latents."""
    (tmp_path / "config.json").write_text(json.dumps(F8 | later))
    config = read_diffusers_config(tmp_path / "config.json")
    shapes = dict(foreign_shapes(abstract_params(config.autoencoder(), config)))
    assert shapes["encoder.down_blocks.1.resnets.0.conv_shortcut.weight"] == (
        (256, 128, 1, 1)
    )
    assert shapes["decoder.up_blocks.2.upsamplers.0.conv.weight"] == (256, 256, 3, 3)
    assert shapes["decoder.mid_block.attentions.0.to_out.0.weight"] == (512, 512)
    assert ("post_quant_conv.weight" in shapes) == config.use_post_quant_conv
    assert len(shapes) == tensors
    assert sum(map(np.prod, shapes.values())) == parameters


def changed(folder, **settings):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "configures 'UNet2DConditionModel'"),
        ({"_class_name": ["AutoencoderKL"]}, "AutoencoderKL or VQModel"),
        ({"act_fn": "gelu"}, "act_fn 'gelu': it must be silu or swish"),
        ({"magic": 3}, "has an unknown 'magic'"),
        ({"layers_per_block": "two"}, "layers_per_block is 'two'"),
        ({"layers_per_block": 0}, "layers_per_block 0: it must be a whole number"),
        ({"block_out_channels": []}, "down_block_types .* for each level"),
        ({"block_out_channels": [2, 5]}, "must be multiples of 2"),
        ({"up_block_types": ["UpDecoderBlock2D", "UpBlock2D"]}, "up_block_types"),
        ({"scaling_factor": 0}, "scaling_factor 0: it must be above 0"),
        (
            {"latents_mean": [1] * 3, "latents_std": [1, 0, 1]},
            "latents_std .* must be 3 numbers",
        ),
        ({"latents_mean": [1, 2, 3]}, r"latents_std \(\): it must be 3 numbers"),
        ({"shift_factor": float("nan")}, "shift_factor nan: it must be a finite"),
        ({"latents_mean": [1]}, "latents_mean .* must be 3 numbers"),
        ({"in_channels": 4}, r"conv_in.weight is F16\[2, 3, 3, 3\] .* \[2, 4, 3, 3\]"),
        ({"layers_per_block": 2}, "52 missing: decoder.up_blocks.0"),
        ({"mid_block_add_attention": False}, "unexpected: .*mid_block.attentions"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_foreign_config_is_told_in_one_line(kl, settings, line):
    changed(kl, **settings)
    check_line(kl, line)


def check_line(folder, pattern):
    with pytest.raises(InputError, match=pattern) as caught:
        from_diffusers(folder)
    assert "\n" not in str(caught.value)


def test_a_missing_key_and_numbers_that_are_none_are_told(kl):
    tensors = load_file(kl / WEIGHTS)
    bias = tensors.pop("decoder.conv_out.bias")
    save_file(tensors, kl / WEIGHTS)
    check_line(kl, "1 missing: decoder.conv_out.bias")
    save_file({**tensors, "decoder.conv_out.bias": bias + np.inf}, kl / WEIGHTS)
    check_line(kl, "decoder.conv_out.bias that are not finite")
    counts = bias.astype(np.int32)
    save_file({**tensors, "decoder.conv_out.bias": counts}, kl / WEIGHTS)
    check_line(kl, r"is I32\[3\] and must be of floats \[3\]")
    (kl / WEIGHTS).write_bytes(b"\x80\x04.")
    check_line(kl, "is not a safetensors file")


def test_other_files_are_not_opened(kl):
    """Shards, variants, pickles, nothing: what to do instead."""
    (kl / WEIGHTS).unlink()
    check_line(kl, f"has no {WEIGHTS}: copy it there")
    for name, line in {
        "diffusion_pytorch_model.bin": "a pickle, which is not opened",
        "diffusion_pytorch_model.fp16.safetensors": "rename that file",
        f"{WEIGHTS}.index.json": "max_shard_size",
    }.items():
        (kl / name).touch()
        check_line(kl, line)


def test_folders_that_are_none_are_told(kl):
    check_line(kl / "there" / "is-none", "no folder of this machine: download")
    (kl / "config.json").write_text("{")
    check_line(kl, "cannot be read as JSON")
    (kl / "config.json").write_text("[]")
    check_line(kl, "must be a JSON object")
    (kl / "config.json").unlink()
    check_line(kl, "has no config.json: give a folder")
    (kl / "model_index.json").touch()
    check_line(kl, "a whole pipeline; give its autoencoder, .*vae")


def test_variables_of_another_network_are_not_written(folders, tmp_path):
    found = from_diffusers(folders / "kl")
    other = DiffusersAutoencoder(KLConfig(), found.module, found.variables)
    with pytest.raises(InputError, match="not what the config describes: 62 unexp"):
        to_diffusers(tmp_path / "out", other)
    assert not (tmp_path / "out").exists()
