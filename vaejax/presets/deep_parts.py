"""Parts of the presets of deep hierarchies: their blocks, models and games."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

import optax

from vaejax.configs import Training, at_least
from vaejax.data.kinds import require_images
from vaejax.data.spec import Spec
from vaejax.errors import InputError, require
from vaejax.experiment import Experiment
from vaejax.models import DeepVAE
from vaejax.models.deep import DeepDecoder, DeepEncoder, Units
from vaejax.models.heads import Scale, exp_scale, smooth_scale
from vaejax.nn.deep_styles import EFFICIENT, VDVAE, Style
from vaejax.nn.layout import Layout, blocks_for, fitting_side, layout_of
from vaejax.presets import assemble as a
from vaejax.types import Objective

StyleName = Literal["vdvae", "efficient"]
STYLES: Mapping[str, tuple[Style, Scale]] = {
    "vdvae": (VDVAE, exp_scale),
    "efficient": (EFFICIENT, smooth_scale),
}
CENTRED = Units()
WARM_UP = 100
"""Steps in which the learning rate rises to its value, in both publications."""


@dataclasses.dataclass(frozen=True)
class DeepBlocks:
    """The blocks of a deep hierarchy."""

    encoder_blocks: str = ""
    """Blocks of the encoder, from the image: 32x11 is 11 blocks on maps of 32 x 32,
    32d2 one that is pooled by 2 at its end; default: by --blocks."""
    decoder_blocks: str = ""
    """Blocks of latents, from the top: 16x5 is 5 blocks on maps of 16 x 16, 16m8 one
    that mixes in the map of side 8; default: by --blocks."""
    blocks: int = 1
    """Blocks on each map, where the strings of blocks are not given."""
    width: int = 64
    """Channels of all maps."""
    bottleneck: float = 0.25
    """Share of them within blocks."""
    widths: str = ""
    """Other channels of some sides, as 16:96,32:48/48: of maps / within blocks."""
    remat: bool = False
    """Recompute blocks for the gradient: less memory, more work."""
    scan: bool = False
    """Compile equal blocks that follow each other once, as a loop, in less time and
    memory: for accelerators; steps on a CPU are slower."""

    def __post_init__(self) -> None:
        at_least(1, self, "blocks")
        require(self.blocks <= 100, "blocks", self.blocks, "at most 100")
        if bool(self.encoder_blocks) != bool(self.decoder_blocks):
            given = "decoder" if self.decoder_blocks else "encoder"
            raise InputError(
                f"--{given}-blocks alone says not what the other half is: give both"
            )


def deep_model(
    view: a.View,
    blocks: DeepBlocks,
    latents: int,
    style: StyleName,
    units: Units = CENTRED,
) -> DeepVAE:
    """The model of the settings, for the images of a view."""
    spec = view.dataset.spec
    require_images(spec, "a deep hierarchy of maps", ": choose vae")
    own, scale = STYLES[style]
    layout = fitted_layout(spec, blocks, latents, own.mirrored)
    outputs, how = view.likelihood.outputs(spec.shape[-1]), (blocks.remat, blocks.scan)
    return DeepVAE(
        encoder=DeepEncoder(layout, own, scale, units, *how),
        decoder=DeepDecoder(layout, own, scale, outputs, view.likelihood, *how),
    )


def fitted_layout(
    spec: Spec, blocks: DeepBlocks, latents: int, mirrored: bool
) -> Layout:
    """The layout of the settings; InputError where images do not fit its first side."""
    height, width = spec.shape[:2]
    texts = blocks.encoder_blocks, blocks.decoder_blocks
    if not texts[0]:
        texts = blocks_for(fitting_side(height, width), blocks.blocks)
    layout = layout_of(
        *texts,
        latents=latents,
        width=blocks.width,
        bottleneck=blocks.bottleneck,
        widths=blocks.widths,
        mirrored=mirrored,
    )
    largest = max(height, width)
    if not largest <= layout.side < 2 * largest:
        side = fitting_side(height, width)
        raise InputError(
            f"--encoder-blocks begins at side {layout.side}, and the images of "
            f"{spec.name} are {height} x {width}: begin at {side}"
        )
    return layout


def deep_experiment(
    model: DeepVAE,
    view: a.View,
    training: Training,
    objective: Objective,
    schedules: Mapping[str, optax.Schedule] | None = None,
) -> Experiment:
    """The game of one player around a model."""
    total = model.decoder.layout.total
    metrics = a.latent_metrics(total, view, model.shapes)
    return a.one_player(model, objective, view, training, metrics, schedules or {})


def own_rate(training: Training) -> float:
    """The learning rate that a recipe's schedule begins with."""
    if training.decay != "constant":
        raise InputError(
            f"--decay {training.decay} is not of this preset, whose schedule is as "
            "published: leave it out, or choose vdvae"
        )
    return training.learning_rate
