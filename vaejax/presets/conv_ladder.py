"""The convolutional ladder VAE of `addtt/ladder-vae-pytorch`."""

import dataclasses
import itertools
import math
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from vaejax import objectives
from vaejax.configs import Data, Latents, LikelihoodName, Network, Training, Weight
from vaejax.data.kinds import require_images
from vaejax.errors import InputError, require
from vaejax.experiment import Experiment, TrainState, epoch_steps
from vaejax.models import Decoder
from vaejax.models.conv_ladder import (
    ConvDown,
    ConvLadderEncoder,
    ConvLadderVAE,
    LearnedNormal,
    MapHead,
    Rung,
)
from vaejax.models.ladder import TopOf
from vaejax.nn.ladder import BlockStyle, FirstMaps, LastMaps, Stage
from vaejax.presets import assemble as a
from vaejax.presets import optimize
from vaejax.presets.hierarchies import NormName, require_no_norm
from vaejax.presets.posteriors import build_head
from vaejax.presets.priors import build_prior
from vaejax.presets.signature import preset
from vaejax.training.step import schedules_at

__all__ = ["ladder_vae_conv"]


class LadderPlan(NamedTuple):
    """The sizes of a convolutional ladder; tuples are from the data upwards."""

    padded: tuple[int, int]
    downsample: tuple[int, ...]
    maps: tuple[tuple[int, int, int], ...]


@preset(tiny={"channels": 4, "layers": 2, "layer_blocks": 1, "skip_connections": False})
def ladder_vae_conv(
    *,
    data: Data = Data(dataset="binarized_mnist"),
    latent: Latents = Latents(32),
    layers: int = 3,
    channels: int = 64,
    layer_blocks: int = 4,
    downsample: tuple[int, ...] = (),
    gated: bool = True,
    skip_connections: bool = True,
    dropout: float = 0.2,
    norm: NormName = "batch",
    learn_top: bool = True,
    fit_first: bool = True,
    likelihood: LikelihoodName = "auto",
    free_bits: float = 0.5,
    weight: Weight = Weight(),
    training: Training = Training(epochs=400, learning_rate=3e-4, batch_size=64),
) -> Experiment:
    """The ladder VAE of maps of latents, by the code of addtt/ladder-vae-pytorch.

    After [Sonderby et al. 2016]; as there a way up corrects the prior on the way down,
    but by a residual network that reads both, and each block sees all above it. Four
    gated residual blocks between layers, batch normalization, ELU, dropout of maps,
    Adamax; the first training batch fits the first weights. The KL term of the loss is
    sampled, as in the code. Its table was made with 3, 6 and 12 layers (about a million
    parameters each), and `--free-bits 1.0` for more than 6.

    Sides are padded to a multiple of what the maps are reduced by; the top map is 2x2
    if `downsample` is left alone. The number of epochs is not the source's, which has
    none.

    Args:
      layers: blocks of maps of latents; `latents` are those of one place.
      channels: of all maps of features.
      layer_blocks: residual blocks between two blocks of latents.
      downsample: halvings below each block, from the data upwards, after that of the
        first convolution; default: spread evenly, to a top map of 2x2.
      gated: gate what a residual block adds.
      skip_connections: features go around a block of latents, too.
      dropout: share of maps dropped in residual blocks.
      norm: batch normalizes in residual blocks; none does not.
      learn_top: learn mean and scale of the top block's Gaussian prior; other --prior
        are learned anyhow.
      fit_first: scale first weights so that outputs of layers have deviation 0.1.
      likelihood: p(x | z); auto: bernoulli of nearly binary images, logistic_mixture of
        others.
      free_bits: nats of KL of each block of an example left alone.
    """
    require(layers >= 2, "layers", layers, "at least 2")
    require(channels >= 1, "channels", channels, "at least 1")
    require(layer_blocks >= 1, "layer_blocks", layer_blocks, "at least 1")
    require(0 <= dropout < 1, "dropout", dropout, "in [0, 1)")
    require(free_bits >= 0, "free_bits", free_bits, "at least 0")
    require_no_norm(latent, norm)
    view = a.open_data(data, Network(likelihood=likelihood))
    require_images(view.dataset.spec, "ladder_vae_conv", ": use ladder_vae")
    plan = planned(view.dataset.spec.shape, latent, layers, downsample)
    check_layer_blocks(plan, layer_blocks)
    block = BlockStyle(norm, dropout, gated)
    made = a.one_player(
        conv_ladder(
            view,
            latent,
            plan,
            (channels, layer_blocks, skip_connections, learn_top),
            block,
        ),
        partial(objectives.block_elbo, free_bits=free_bits),
        view,
        training,
        a.latent_metrics(
            sum(map(math.prod, plan.maps)),
            view,
            blocks_of(plan),
        ),
        {"beta": a.weight_schedule(weight, training, view.dataset)},
    )
    steps = epoch_steps(view.dataset, training) * training.epochs
    moves = optax.adamax(optimize.scheduled_rate(training, steps))
    made = optimize.optimized_by(made, optimize.clipped(training, moves))
    return fitted_first(made) if fit_first else made


def planned(
    shape: tuple[int, ...], latent: Latents, layers: int, downsample: tuple[int, ...]
) -> LadderPlan:
    """The sizes of each layer for images of a shape; InputError where none fit."""
    height, width = shape[:2]
    halvings = max(math.ceil(math.log2(max(height, width) / 4)), 0)
    ends = [halvings * (i + 1) // layers for i in range(layers)]
    steps = downsample or tuple(b - a for a, b in itertools.pairwise((0, *ends)))
    if len(steps) != layers or min(steps) < 0:
        raise InputError(
            f"--downsample has {len(steps)} numbers, for {layers} layers: give one "
            "number of at least 0 for each layer"
        )
    factor = 2 ** (1 + sum(steps))
    tall, wide = (math.ceil(side / factor) * factor for side in (height, width))
    factors = [2 ** (1 + done) for done in itertools.accumulate(steps)]
    sizes = [latent.latents] * (layers - 1) + [latent.size]
    maps = tuple((tall // f, wide // f, n) for f, n in zip(factors, sizes, strict=True))
    return LadderPlan((tall, wide), steps, maps)


def blocks_of(plan: LadderPlan) -> dict[str, tuple[int, ...]]:
    """The shape of each block of latents; the top one is a vector."""
    *lower, top = plan.maps
    shapes = (*lower, (math.prod(top),))
    return {f"z{i + 1}": shape for i, shape in enumerate(shapes)}


def check_layer_blocks(plan: LadderPlan, layer_blocks: int) -> None:
    """InputError where a layer has fewer residual blocks than halvings."""
    if max(plan.downsample) > layer_blocks:
        raise InputError(
            f"{max(plan.downsample)} halvings in one layer need as many residual "
            "blocks: set --layer-blocks, more --layers, or --downsample"
        )


def conv_ladder(
    view: a.View,
    latent: Latents,
    plan: LadderPlan,
    sizes: tuple[int, int, bool, bool],
    block: BlockStyle,
) -> ConvLadderVAE:
    """The model; `sizes` are channels, residual blocks, and whether with skips and a
    learned prior on top.
    """
    channels, layer_blocks, skip, learn_top = sizes
    spec, top = view.dataset.spec, len(plan.maps) - 1
    # The first block of the way up is not gated, those that merge always are.
    first, merge = (block._replace(gated=gated) for gated in (False, True))
    stages = [Stage(layer_blocks, n, block) for n in plan.downsample]
    rungs = [
        Rung(
            latent.latents,
            channels,
            Stage(layer_blocks, n, block, up=True),
            merge,
            i == top,
            skip,
        )
        for i, n in enumerate(plan.downsample)
    ]
    sides = plan.maps[-1][:2]
    whole = dataclasses.replace(latent, latents=math.prod(sides) * latent.latents)
    encoder = ConvLadderEncoder(
        FirstMaps(channels, plan.padded, first),
        tuple(stages),
        build_head(whole, MapHead(sides, latent.latents)),
    )
    height, width, channels_of_x = spec.shape
    outputs = view.likelihood.outputs(channels_of_x)
    last = LastMaps((height, width, outputs), Stage(layer_blocks, 0, block))
    return ConvLadderVAE(
        encoder=encoder,
        down=ConvDown(tuple(rungs)),
        decoder=Decoder(last, view.likelihood),
        prior=top_prior(view, whole, encoder, learn_top),
        maps=plan.maps,
    )


def top_prior(
    view: a.View, whole: Latents, encoder: ConvLadderEncoder, learn_top: bool
) -> nn.Module:
    """p(z_L) of a map as a vector, whose latents are those of `whole`."""
    if learn_top and (whole.prior, whole.posterior) == ("standard", "diagonal"):
        return LearnedNormal(whole.latents)
    return build_prior(whole, TopOf(encoder), view.dataset.spec, view.preprocess)


def fitted_first(experiment: Experiment) -> Experiment:
    """The experiment whose first weights are fitted to its first training images.

    Layers fit themselves where `params` are mutable (`FittedConv`).
    """
    (player,) = experiment.players.values()
    objective = partial(player.objective, **schedules_at(player, 0))

    def begin(state: TrainState) -> TrainState:
        split = experiment.dataset.split("train")
        size = experiment.training.batch_size
        raw = {name: array[:size] for name, array in split.items()}
        raw |= {"index": np.arange(len(raw["x"]))}
        data, latents, dropout = jax.random.split(
            jax.random.key(experiment.training.seed), 3
        )
        batch = experiment.preprocess.apply(jax.tree.map(jnp.asarray, raw), data)
        apply = nn.apply(objective, experiment.model, mutable=True)
        variables = {"params": state.params, **state.stats}
        _, moved = apply(variables, batch, latents, rngs={"dropout": dropout})
        params = dict(moved["params"])
        ema = jax.tree.map(jnp.copy, params) if state.ema else state.ema
        return state._replace(params=params, ema=ema)

    return dataclasses.replace(experiment, begin=begin)
