"""Autoencoders with random weights in diffusers' format, and what ours make of images.

`ours.py` calls it. Each case is a folder that `to_diffusers` wrote, and arrays of
`maps.npz`: images, our latents and our images, by the name of the case.
"""

from pathlib import Path

import jax
import numpy as np

from vaejax.sharing.diffusers import (
    DiffusersAutoencoder,
    abstract_params,
    from_diffusers,
    to_diffusers,
)
from vaejax.sharing.diffusers_config import Config, KLConfig, VQConfig

DOWN, UP = "DownEncoderBlock2D", "UpDecoderBlock2D"
SMALL = {
    "block_out_channels": (8, 16),
    "norm_num_groups": 4,
    "layers_per_block": 2,
    "down_block_types": (DOWN, f"Attn{DOWN}"),
    "up_block_types": (f"Attn{UP}", UP),
    "scaling_factor": 0.3,
}
PLAIN = {
    "block_out_channels": (4, 8, 12),
    "norm_num_groups": 2,
    "down_block_types": (DOWN,) * 3,
    "up_block_types": (UP,) * 3,
    "mid_block_add_attention": False,
}
CASES: dict[str, tuple[Config, tuple[int, int]]] = {
    "kl": (KLConfig(**SMALL, shift_factor=0.1), (12, 20)),
    "kl_grey": (
        KLConfig(
            **PLAIN,
            in_channels=1,
            out_channels=1,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ),
        (16, 8),
    ),
    "kl_f8": (
        KLConfig(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            down_block_types=(DOWN,) * 4,
            up_block_types=(UP,) * 4,
            sample_size=512,
        ),
        (64, 64),
    ),
    "vq": (VQConfig(**SMALL, num_vq_embeddings=64, vq_embed_dim=5), (12, 20)),
    "vq_plain": (VQConfig(**PLAIN, num_vq_embeddings=16), (16, 8)),
}
"""A configuration and the size of the images, by name."""


def drawn(config: Config, seed: int) -> dict[str, object]:
    """Random parameters that keep the size of maps; norms are not left at 0 and 1."""
    rng = np.random.default_rng(seed)

    def one(path: object, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        name = str(path)
        if "kernel" in name:
            deviation = np.prod(leaf.shape[:-1]) ** -0.5
            return np.float32(rng.standard_normal(leaf.shape, np.float32) * deviation)
        around = 1.0 if "scale" in name else 0.0
        return np.float32(rng.normal(around, 0.2, leaf.shape))

    abstract = abstract_params(config.autoencoder(), config)
    return {"params": jax.tree_util.tree_map_with_path(one, abstract)}


def computed(case: DiffusersAutoencoder, x: np.ndarray) -> dict[str, np.ndarray]:
    """Images, the encoder's maps, latents, codes of a codebook, decoded images."""
    module, variables = case.module, case.variables
    run = jax.jit(module.apply, static_argnames="method")
    z = run(variables, x, method="encode")
    found = {"x": x, "z": z, "decoded": run(variables, z, method="decode")}
    if isinstance(case.config, KLConfig):
        found["scale"] = run(variables, x, method="posterior").scale
    else:
        found["codes"] = run(variables, x, method="codes_of")
    return {name: np.asarray(value) for name, value in found.items()}


def write_autoencoders(folder: Path) -> None:
    """Writes the folders and `maps.npz`."""
    arrays = {}
    for seed, (name, (config, size)) in enumerate(CASES.items()):
        given = DiffusersAutoencoder(config, config.autoencoder(), drawn(config, seed))
        to_diffusers(folder / name, given)
        read = from_diffusers(folder / name)
        shape = (2, *size, config.in_channels)
        x = np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)
        found = computed(read, x)
        arrays |= {f"{name}_{kind}": value for kind, value in found.items()}
    np.savez(folder / "maps.npz", **arrays)
