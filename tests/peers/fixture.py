"""Writes tests/fixtures/diffusers.zip: .venv-peers/bin/python tests/peers/fixture.py

Two tiny autoencoders as diffusers saves them, in half precision, and what its PyTorch
modules make of an image with these weights in float32. In the first one attention has
the names of before 2023, as published weights still have.
"""

import io
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, VQModel
from safetensors.torch import load_file, save_file

OUT = Path(__file__).parent.parent / "fixtures" / "diffusers.zip"
SIZES = {
    "block_out_channels": (2, 4),
    "norm_num_groups": 2,
    "down_block_types": ("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
    "up_block_types": ("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
}
MODELS = {
    "kl": lambda: AutoencoderKL(**SIZES, latent_channels=3, shift_factor=0.25),
    "vq": lambda: VQModel(**SIZES, num_vq_embeddings=8, vq_embed_dim=3),
}
OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


@torch.no_grad()
def written(model, folder):
    """Saves the model, and returns its inputs and outputs."""
    for parameter in model.parameters():
        parameter.add_(0.3 * torch.randn(parameter.shape))
    model.half().save_pretrained(folder)
    model.float().eval()
    x = 2 * torch.rand(2, 3, 4, 6) - 1
    encoded = model.encode(x)
    if isinstance(model, AutoencoderKL):
        z, more = encoded.latent_dist.mean, {"scale": encoded.latent_dist.std}
    else:
        z, _, (_, _, codes) = model.quantize(encoded.latents)
        more = {"codes": codes.reshape(2, 1, 2, 3)}
    found = {"x": x, "z": z, "decoded": model.decode(z).sample, **more}
    return {name: value.permute(0, 2, 3, 1).numpy() for name, value in found.items()}


def with_old_names(path):
    """Renames the parts of attention in a file of weights."""
    renamed = {}
    for name, tensor in load_file(path).items():
        for new, old in OLD.items():
            name = name.replace(f".{new}.", f".{old}.")
        renamed[name] = tensor
    save_file(renamed, path, metadata={"format": "pt"})


def main():
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(OUT, "w") as out:
        for name, make in MODELS.items():
            folder = Path(scratch) / name
            arrays = written(make(), folder)
            if name == "kl":
                with_old_names(folder / "diffusion_pytorch_model.safetensors")
            buffer = io.BytesIO()
            np.savez(buffer, **arrays)
            (folder / "expected.npz").write_bytes(buffer.getvalue())
            for path in sorted(folder.iterdir()):
                content = path.read_bytes()
                at = zipfile.ZipInfo(f"{name}/{path.name}")
                out.writestr(at, content, zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main()
