"""Deep hierarchies of latent maps, sized by settings and as published."""

from functools import partial
from typing import Literal

import optax

from vaejax import objectives
from vaejax.configs import Data, LatentSize, Network, Training, Weight
from vaejax.errors import require
from vaejax.experiment import Experiment
from vaejax.models import likelihoods as li
from vaejax.models.deep import Units
from vaejax.presets import assemble as a
from vaejax.presets.deep_parts import (
    WARM_UP,
    DeepBlocks,
    StyleName,
    deep_experiment,
    deep_model,
    own_rate,
)
from vaejax.presets.hazami import Hazami, efficient_experiment
from vaejax.presets.optimize import clipped, optimized_by
from vaejax.presets.signature import preset

__all__ = ["vdvae", "vdvae_cifar10", "vdvae_cifar10_efficient", "vdvae_mnist"]

DeepLikelihood = Literal[
    "auto",
    "bernoulli",
    "categorical",
    "gaussian_optimal",
    "gaussian_pixel",
    "logistic_mixture",
]
TINY = {"encoder_blocks": "8d8,1x1", "decoder_blocks": "1x1,8m1", "widths": ""}
TINY = {**TINY, "width": 8, "latents": 2}
CHILD_ENCODER = "32x11,32d2,16x6,16d2,8x6,8d2,4x3,4d4,1x3"
CIFAR10 = Data(dataset="cifar10", validation=5000)
NUMBERS = 32 * 32 * 3
"""Numbers of an image of CIFAR-10: the losses of both papers' codes are nats a number,
so that their norms, and the epsilons of their optimizers, are so many times smaller.
"""


@preset(tiny=TINY)
def vdvae(
    *,
    data: Data = Data(),
    blocks: DeepBlocks = DeepBlocks(width=32),
    latent: LatentSize = LatentSize(8),
    style: StyleName = "vdvae",
    likelihood: DeepLikelihood = "auto",
    weight: Weight = Weight(),
    free_bits: float = 0.0,
    training: Training = Training(
        epochs=30, batch_size=32, decay="cosine", skip=1_000_000.0, ema=0.999
    ),
) -> Experiment:
    """A deep hierarchy of latent maps, for images of any size [Child 2021].

    `latents` are the channels of each block's map of latents. Images smaller than the
    first side of `--encoder-blocks` are padded by zeros. `skip` is that of Child's code
    for 32 x 32 colours, rounded: norms of a small model there are 14,000 to 42,000.

    Args:
      style: layers as in vdvae [Child 2021] or in efficient [Hazami et al. 2022].
      likelihood: p(x | z); auto: bernoulli of nearly binary images, logistic_mixture of
        others.
      free_bits: nats of KL left alone of each latent.
    """
    require(free_bits >= 0, "free_bits", free_bits, "at least 0")
    view = a.open_data(data, Network(likelihood=likelihood))
    objective = partial(objectives.elbo, free_bits=free_bits)
    schedules = {"beta": a.weight_schedule(weight, training, view.dataset)}
    model = deep_model(view, blocks, latent.latents, style)
    return deep_experiment(model, view, training, objective, schedules)


@preset(tiny={**TINY, "validation": 100})
def vdvae_cifar10(
    *,
    data: Data = CIFAR10,
    blocks: DeepBlocks = DeepBlocks(
        CHILD_ENCODER, "1x1,4m1,4x2,8m4,8x5,16m8,16x10,32m16,32x21", width=384
    ),
    latent: LatentSize = LatentSize(16),
    training: Training = Training(
        epochs=711,
        batch_size=32,
        learning_rate=2e-4,
        clip=200.0 * NUMBERS,
        skip=400.0 * NUMBERS,
        ema=0.9999,
    ),
) -> Experiment:
    """The VDVAE of CIFAR-10, 43 blocks, 39 M parameters [Child 2021].

    Mixtures of ten discretized logistics; AdamW, betas .9 and .9, decay .01, a warm-up
    of 100 steps; a million steps of 32 images (two devices have 16 each). The loss of
    the authors' code is nats a number of an image and here nats an image: their clip
    200 and skip 400 are 3,072 times as large here, and so is Adam's epsilon. Other
    images validate, the last 5,000. All else, initial weights too, is as in the
    authors' code.
    """
    view = a.open_data(data, li.LogisticMixture())
    units = Units(120.63838 / 255, 255 / 64.16736)
    model = deep_model(view, blocks, latent.latents, "vdvae", units)
    made = deep_experiment(model, view, training, objectives.elbo)
    rate = optax.linear_schedule(0.0, own_rate(training), WARM_UP)
    adamw = optax.adamw(rate, 0.9, 0.9, 1e-8 * NUMBERS, weight_decay=0.01)
    return optimized_by(made, clipped(training, adamw))


@preset(tiny={**TINY, "random_flip": False})
def vdvae_cifar10_efficient(
    *,
    data: Data = Data(dataset="cifar10", random_flip=True),
    blocks: DeepBlocks = DeepBlocks(
        CHILD_ENCODER,
        "1x3,4m1,4x3,8m4,8x6,16m8,16x1,16r4,16x5,32m16,32x1,32r10,32x10",
        width=384,
        widths="8:192/48,16:96/48,32:48/48",
    ),
    latent: LatentSize = LatentSize(16),
    training: Training = Training(
        epochs=512, batch_size=32, skip=800.0 * NUMBERS, ema=0.9999
    ),
) -> Experiment:
    """The small Efficient-VDVAE of CIFAR-10, config C1 [Hazami et al. 2022].

    Mixtures of ten discretized logistics whose scales are smoothed, as those of the
    latents; Adamax, 1e-3 falling along a cosine to 2e-4 from step 50,000 to 800,000,
    with weight decay; KL terms warmed up and balanced. `--widths "" --latents 32` is
    their baseline. The authors' code has a loss in nats a number, here it is nats an
    image: skip is 3,072 times as large. Scales of logistics reach down to exp(-12),
    not exp(-250): both are points on the grid of grey levels.
    """
    view = a.open_data(data, li.LogisticMixture(smooth=True, log_scale_floor=-12.0))
    return efficient_experiment(
        deep_model(view, blocks, latent.latents, "efficient"),
        view,
        training,
        Hazami(NUMBERS, 2e-4, 50_000, 750_000, 5000, 10_000),
    )


@preset(tiny=TINY)
def vdvae_mnist(
    *,
    data: Data = Data(dataset="mnist", binarize="dynamic_train"),
    blocks: DeepBlocks = DeepBlocks(
        "32d2,16x1,16d2,8x9,8d2,4x4,4d4,1x5",
        "1x5,4m1,4x4,8m4,8x9,16m8,16x1,32m16",
        width=512,
        bottleneck=1.0,
        widths="4:256,8:128,16:64,32:32",
    ),
    latent: LatentSize = LatentSize(32),
    training: Training = Training(
        epochs=107, batch_size=32, skip=800.0 * 28**2, ema=0.9999
    ),
) -> Experiment:
    """The Efficient-VDVAE of binarized MNIST, 23 blocks [Hazami et al. 2022].

    Images are padded to 32 x 32, those of training binarized at each access and the
    others once; Adamax, 1e-3 falling along a cosine to 1e-4 from step 5,000 to 200,000,
    with weight decay; KL terms warmed up and balanced. The authors' code has a loss in
    nats a pixel, here it is nats an image: skip is 784 times as large. They test on
    half of the test images, binarized by other draws.
    """
    view = a.open_data(data, li.Bernoulli())
    return efficient_experiment(
        deep_model(view, blocks, latent.latents, "efficient", Units(0.0, 1.0)),
        view,
        training,
        Hazami(28**2, 1e-4, 5000, 195_000, 500, 1000),
    )
