"""`config.json` of diffusers' autoencoders, and the networks that one describes."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vaejax.data.stored import read_record
from vaejax.errors import InputError
from vaejax.models.map_autoencoders import (
    Codebook,
    MapAutoencoder,
    VectorQuantizedMapAutoencoder,
)
from vaejax.nn.feature_blocks import MapSizes
from vaejax.nn.feature_maps import FeatureMapDecoder, FeatureMapEncoder
from vaejax.runtime.jsonlines import parsed

Autoencoder = MapAutoencoder | VectorQuantizedMapAutoencoder
CONFIG = "config.json"
DOWN_BLOCKS = ("DownEncoderBlock2D", "AttnDownEncoderBlock2D")
"""Types of blocks of the encoder: plain, and with attention."""
UP_BLOCKS = ("UpDecoderBlock2D", "AttnUpDecoderBlock2D")
LATENTS = ("latents_mean", "latents_std")
"""Means and deviations of the channels of latents: both are given, or neither."""
MADE_FOR = "0.42.1"
"""The version of diffusers whose classes these are; `to_diffusers` writes it down."""


class KLConfig(NamedTuple):
    """The settings of an `AutoencoderKL`, with diffusers' defaults."""

    in_channels: int = 3
    out_channels: int = 3
    down_block_types: tuple[str, ...] = DOWN_BLOCKS[:1]
    up_block_types: tuple[str, ...] = UP_BLOCKS[:1]
    block_out_channels: tuple[int, ...] = (64,)
    layers_per_block: int = 1
    act_fn: str = "silu"
    latent_channels: int = 4
    norm_num_groups: int = 32
    sample_size: int | tuple[int, ...] = 32
    scaling_factor: float = 0.18215
    shift_factor: float | None = None
    latents_mean: tuple[float, ...] | None = None
    latents_std: tuple[float, ...] | None = None
    force_upcast: bool = True
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True

    def autoencoder(self) -> MapAutoencoder:
        """The networks that these settings describe."""
        latents = self.latent_channels
        projected = latents if self.use_post_quant_conv else None
        moments = 2 * latents if self.use_quant_conv else None
        return MapAutoencoder(
            FeatureMapEncoder(2 * latents, encoder_sizes(self), moments),
            FeatureMapDecoder(self.out_channels, decoder_sizes(self), projected),
        )


class VQConfig(NamedTuple):
    """The settings of a `VQModel`, with diffusers' defaults."""

    in_channels: int = 3
    out_channels: int = 3
    down_block_types: tuple[str, ...] = DOWN_BLOCKS[:1]
    up_block_types: tuple[str, ...] = UP_BLOCKS[:1]
    block_out_channels: tuple[int, ...] = (64,)
    layers_per_block: int = 1
    act_fn: str = "silu"
    latent_channels: int = 3
    sample_size: int | tuple[int, ...] = 32
    num_vq_embeddings: int = 256
    norm_num_groups: int = 32
    vq_embed_dim: int | None = None
    scaling_factor: float = 0.18215
    norm_type: str = "group"
    mid_block_add_attention: bool = True
    lookup_from_codebook: bool = False
    force_upcast: bool = False

    def autoencoder(self) -> VectorQuantizedMapAutoencoder:
        """The networks that these settings describe."""
        latents = self.latent_channels
        channels = latents if self.vq_embed_dim is None else self.vq_embed_dim
        return VectorQuantizedMapAutoencoder(
            FeatureMapEncoder(latents, encoder_sizes(self), channels),
            FeatureMapDecoder(self.out_channels, decoder_sizes(self), latents),
            Codebook(self.num_vq_embeddings, channels),
        )


Config = KLConfig | VQConfig
CLASSES: dict[str, type[KLConfig | VQConfig]] = {
    "AutoencoderKL": KLConfig,
    "VQModel": VQConfig,
}
"""Configurations by diffusers' name of the class."""


def encoder_sizes(config: Config) -> MapSizes:
    """Sizes of the encoder."""
    kinds = config.down_block_types
    attended = tuple(n for n, kind in enumerate(kinds) if kind == DOWN_BLOCKS[1])
    return sizes_of(config, attended)


def decoder_sizes(config: Config) -> MapSizes:
    """Sizes of the decoder, whose blocks are listed from the smallest map upwards."""
    kinds = reversed(config.up_block_types)
    attended = tuple(n for n, kind in enumerate(kinds) if kind == UP_BLOCKS[1])
    return sizes_of(config, attended)


def sizes_of(config: Config, attended: tuple[int, ...]) -> MapSizes:
    """The sizes that encoder and decoder have in common, and where attention is."""
    return MapSizes(
        widths=config.block_out_channels,
        blocks=config.layers_per_block,
        attended=attended,
        middle_attention=config.mid_block_add_attention,
        groups=config.norm_num_groups,
    )


def diffusers_config_of(module: Autoencoder, channels: int, **settings: Any) -> Config:
    """The settings that describe networks of our own.

    Args:
      module: the networks.
      channels: of the images that the encoder reads.
      settings: those that say nothing of the networks, as `scaling_factor`.

    Returns:
      A configuration whose `autoencoder()` is the module, but for dropout and what is
      computed again: diffusers' classes have neither.

    Raises:
      InputError: diffusers' class describes no such networks.
    """
    encoder, decoder = module.encoder, module.decoder
    sizes = encoder.sizes
    settings |= {
        "in_channels": channels,
        "out_channels": decoder.outputs,
        "down_block_types": kinds_of(sizes, DOWN_BLOCKS),
        "up_block_types": kinds_of(decoder.sizes, UP_BLOCKS)[::-1],
        "block_out_channels": sizes.widths,
        "layers_per_block": sizes.blocks,
        "norm_num_groups": sizes.groups,
        "mid_block_add_attention": sizes.middle_attention,
    }
    if isinstance(module, MapAutoencoder):
        settings["latent_channels"] = encoder.outputs // 2
        settings["use_quant_conv"] = encoder.projected is not None
        settings["use_post_quant_conv"] = decoder.projected is not None
        config: Config = KLConfig(**settings)
    else:
        settings["latent_channels"] = encoder.outputs
        settings["vq_embed_dim"] = module.quantize.channels
        settings["num_vq_embeddings"] = module.quantize.size
        config = VQConfig(**settings)
    described = config.autoencoder()
    pairs = ((described.encoder, encoder), (described.decoder, decoder))
    for theirs, ours in pairs:
        plain = ours.sizes._replace(dropout=0.0, remat=False)
        if theirs != ours.clone(sizes=plain):
            raise InputError(
                f"diffusers has no {type(ours).__name__} like this in its class: "
                "encoder and decoder must have the same sizes, and 1x1 convolutions as "
                "many channels as there are latents, twice as many for a Gaussian"
            )
    return config


def kinds_of(sizes: MapSizes, kinds: tuple[str, str]) -> tuple[str, ...]:
    """The type of each level's blocks: plain, or with attention."""
    return tuple(kinds[n in sizes.attended] for n in range(len(sizes.widths)))


def read_diffusers_config(path: Path) -> Config:
    """The settings of a `config.json`, checked.

    Raises:
      InputError: no such file or no JSON; another class; a setting that is unknown, or
        of which there is no such network here.
    """
    try:
        content = parsed(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path.parent} has no {CONFIG}{hint(path.parent)}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is no configuration: it must be a JSON object")
    named = content.get("_class_name")
    kind = CLASSES.get(named) if isinstance(named, str) else None
    if kind is None:
        raise InputError(
            f"{path} configures {str(named)[:60]!r} (its _class_name): give the folder "
            f"of an autoencoder, {' or '.join(CLASSES)}"
        )
    own = {n: v for n, v in content.items() if not n.startswith("_")}
    config = read_record(kind, own, str(path))
    check_described(config, path)
    return config


def hint(folder: Path) -> str:
    """The place to look instead, for the end of a message."""
    if (folder / "model_index.json").is_file():
        return f": it is a whole pipeline; give its autoencoder, {folder / 'vae'}"
    return ": give a folder that diffusers' save_pretrained wrote"


def check_described(config: Config, path: Path) -> None:
    """InputError where a setting describes no network that there is here."""
    levels = len(config.block_out_channels)
    for name in ("down_block_types", "up_block_types"):
        known = DOWN_BLOCKS if name.startswith("down") else UP_BLOCKS
        kinds = getattr(config, name)
        if len(kinds) != levels or not set(kinds) <= {*known}:
            refuse(path, name, kinds, f"one of {', '.join(known)} for each level")
    check_choice(config, path, "act_fn", ("silu", "swish"))
    check_choice(config, path, "norm_type", ("group",))
    counts = ["in_channels", "out_channels", "layers_per_block", "latent_channels"]
    counts += ["norm_num_groups", "num_vq_embeddings", "vq_embed_dim"]
    for name in counts:
        value = getattr(config, name, None)
        if value is not None and not is_size(value):
            refuse(path, name, value, "a whole number from 1")
    widths, groups = config.block_out_channels, config.norm_num_groups
    if not widths or not all(is_size(w) and w % groups == 0 for w in widths):
        refuse(path, "block_out_channels", widths, f"multiples of {groups}, the groups")
    if not 0 < config.scaling_factor < math.inf:
        refuse(path, "scaling_factor", config.scaling_factor, "above 0")
    shift = getattr(config, "shift_factor", None)
    if not math.isfinite(shift or 0.0):
        refuse(path, "shift_factor", shift, "a finite number")
    for name, other in (LATENTS, LATENTS[::-1]):
        check_per_channel(config, path, name, other)


def check_choice(config: Config, path: Path, name: str, known: Sequence[str]) -> None:
    """InputError where a text, if the class has it, is none of these."""
    value = getattr(config, name, known[0])
    if value not in known:
        refuse(path, name, value, " or ".join(known))


def check_per_channel(config: Config, path: Path, name: str, other: str) -> None:
    """InputError where there is not one number for each channel of the latents.

    Where the other setting is none, this may be none, too.
    """
    values = getattr(config, name, None)
    if values is None and getattr(config, other, None) is None:
        return
    values = values or ()
    fit = len(values) == config.latent_channels and all(map(math.isfinite, values))
    if not fit or (name == LATENTS[1] and min(values) <= 0):
        refuse(path, name, values, f"{config.latent_channels} numbers")


def is_size(value: Any) -> bool:
    """Whether it is a whole number from 1, and one that a network can have."""
    return type(value) is int and 1 <= value < 2**24


def refuse(path: Path, name: str, value: Any, wanted: str) -> None:
    """InputError: a setting of a file is not what it must be."""
    text = repr(value)
    text = text if len(text) <= 60 else f"{text[:57]}..."
    raise InputError(f"{path} has {name} {text}: it must be {wanted}")


def config_json(config: Config) -> dict[str, Any]:
    """The content of `config.json`."""
    named = next(name for name, kind in CLASSES.items() if isinstance(config, kind))
    about = {"_class_name": named, "_diffusers_version": MADE_FOR}
    return about | config._asdict()
