"""Autoencoders that vaejax wrote, in diffusers' own PyTorch modules."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import arrays
from diffusers import AutoencoderKL, VQModel
from safetensors.numpy import load_file

CLASSES = {
    "kl": AutoencoderKL,
    "kl_grey": AutoencoderKL,
    "kl_f8": AutoencoderKL,
    "vq": VQModel,
    "vq_plain": VQModel,
}
KL = [name for name in CLASSES if name.startswith("kl")]
VQ = [name for name in CLASSES if name.startswith("vq")]
RELATIVE = 1e-4


@pytest.fixture(scope="session")
def maps():
    return arrays("maps.npz")


@pytest.fixture(scope="module", params=CLASSES)
def case(request):
    """The name of a case, and the model that diffusers reads from its folder."""
    folder = Path(os.environ["PEERS_FOLDER"]) / request.param
    model, info = CLASSES[request.param].from_pretrained(
        folder, local_files_only=True, output_loading_info=True
    )
    assert not any(info.values()), info
    return request.param, model.eval()


def first(channels_last):
    return torch.tensor(np.moveaxis(channels_last, -1, 1))


def same(ours, theirs):
    """Within 1e-4 of the largest number."""
    theirs = np.moveaxis(theirs.numpy(), 1, -1)
    assert ours.shape == theirs.shape
    assert np.ptp(theirs) > 0.1
    np.testing.assert_allclose(ours, theirs, atol=RELATIVE * np.abs(theirs).max())


@torch.no_grad()
def test_images_are_encoded_as_diffusers_does(maps, case):
    name, model = case
    encoded = model.encode(first(maps[f"{name}_x"]))
    if name in KL:
        same(maps[f"{name}_z"], encoded.latent_dist.mean)
        same(maps[f"{name}_scale"], encoded.latent_dist.std)
        return
    values, _, (_, _, codes) = model.quantize(encoded.latents)
    found = maps[f"{name}_codes"]
    assert len(np.unique(found)) > 3
    np.testing.assert_array_equal(found.ravel(), codes.numpy().ravel())
    same(maps[f"{name}_z"], values)


@torch.no_grad()
def test_latents_are_decoded_as_diffusers_does(maps, case):
    name, model = case
    same(maps[f"{name}_decoded"], model.decode(first(maps[f"{name}_z"])).sample)


def test_diffusers_writes_the_folder_that_ours_is(case, tmp_path):
    """The same settings and tensors: what it writes, vaejax reads."""
    name, model = case
    folder = Path(os.environ["PEERS_FOLDER"]) / name
    model.save_pretrained(tmp_path)
    names = ["config.json", "diffusion_pytorch_model.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    settings = [json.loads((at / names[0]).read_text()) for at in (folder, tmp_path)]
    ours, theirs = (
        {n: v for n, v in each.items() if n != "_name_or_path"} for each in settings
    )
    assert ours == theirs
    ours, theirs = (load_file(at / names[1]) for at in (folder, tmp_path))
    assert ours.keys() == theirs.keys()
    for tensor, value in ours.items():
        np.testing.assert_array_equal(value, theirs[tensor], err_msg=tensor)
