"""The importance-weighted autoencoder as its paper and its authors' code have it."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

import flax.linen as nn
import numpy as np
import optax

from vaejax import objectives
from vaejax.configs import Data, Training
from vaejax.data import Dataset
from vaejax.data.feed import Stored
from vaejax.errors import require
from vaejax.experiment import Experiment, TrainState, epoch_steps
from vaejax.models import (
    VAE,
    Decoder,
    Encoder,
    GaussianNetwork,
    StandardNormal,
    TwoLayerVAE,
)
from vaejax.models import likelihoods as li
from vaejax.models.heads import GaussianHead, exp_scale
from vaejax.nn import networks as net
from vaejax.nn.starts import FIXED_GLOROT, GLOROT, Start
from vaejax.presets import assemble as a
from vaejax.presets import optimize
from vaejax.presets.choice import pick
from vaejax.presets.signature import preset
from vaejax.training.optimizers import early_epsilon_adam
from vaejax.types import Objective

__all__ = ["iwae_burda", "iwae_burda_two_layer"]

Bound = Literal["iwae", "vae"]
Recipe = Literal["paper", "code"]
DATA = Data(dataset="mnist", validation=400)
TRAINING = Training(
    epochs=3280,
    batch_size=20,
    learning_rate=1e-3,
    decay="stages",
    evaluate_every=20,
    checkpoint_every=30_000,
)
STARTS: Mapping[str, Start] = {"paper": GLOROT, "code": FIXED_GLOROT}
OBJECTIVES: Mapping[str, Objective] = {
    "iwae": objectives.iwae,
    "vae": objectives.averaged_elbo,
}


@preset(tiny={"samples": 2, "validation": 100})
def iwae_burda(
    *,
    data: Data = DATA,
    samples: int = 1,
    bound: Bound = "iwae",
    recipe: Recipe = "paper",
    training: Training = TRAINING,
) -> Experiment:
    """One layer of 50 latents, by the recipe of Table 1 [Burda et al. 2016, sec. 5].

    784-200-200-50-200-200-784 with tanh, sigma = exp of a linear layer, Glorot-uniform
    kernels, output biases from the training mean (clipped to [.001, .999]), batches of
    20 images, binarized at each access; Adam with epsilon 1e-4, in eight stages of 3^i
    epochs at 1e-3 * 10^(-i/7). `--epochs 1`, 4, 13, 40, 121, 364, 1093 ends after a
    whole stage, and the run can be prolonged from there as if it had not ended. The
    last 400 training images are held out, as in the code; the paper counts all 60,000.

    `--recipe code` is what the authors' code does where it differs from the paper:
    beta1 is .99 and not .9; the second moments begin at 1 and not at 0, epsilon is
    added before their correction, and the gradient is that of the sum over the batch,
    not the mean; rates are rounded (1e-3, 7.2e-4, 5.2e-4, ...); each epoch has the same
    batches; kernels are those of one NumPy seed, whatever `--seed` is, alike in layers
    of one shape. Not as in the code: TFDS has the images in another order.

    Args:
      samples: draws k of z for each image.
      bound: iwae maximizes the bound of k draws (eq. 8), vae the mean of k ELBOs, each
        of one draw (eq. 7).
      recipe: paper, or code, as told above.
    """
    view = a.open_data(data, li.Bernoulli())
    start = pick("recipe", recipe, STARTS)
    prior = StandardNormal(50)
    model = VAE(
        encoder=data_encoder(50, start), decoder=data_decoder(view, start), prior=prior
    )
    return burda_recipe(model, view, training, (50, samples, bound, recipe))


@preset(tiny={"samples": 2, "validation": 100})
def iwae_burda_two_layer(
    *,
    data: Data = DATA,
    samples: int = 1,
    bound: Bound = "iwae",
    recipe: Recipe = "paper",
    training: Training = TRAINING,
) -> Experiment:
    """Two layers of 100 and 50 latents, else as `iwae_burda` [Burda et al. 2016].

    q(z1 | x): 784-200-200-100; q(z2 | z1): 100-100-100-50; p(z1 | z2) and p(x | z1)
    mirror them.

    Args:
      samples: draws k of the latents for each image.
      bound: iwae (eq. 8) or vae (eq. 7), as in `iwae_burda`.
      recipe: paper, or code, as in `iwae_burda`.
    """
    view = a.open_data(data, li.Bernoulli())
    start = pick("recipe", recipe, STARTS)
    model = TwoLayerVAE(
        encoder=data_encoder(100, start),
        top_encoder=latent_network(50, start),
        decoder=data_decoder(view, start),
        top_decoder=latent_network(100, start),
        prior=StandardNormal(50),
    )
    blocks = {"z1": 100, "z2": 50}
    return burda_recipe(model, view, training, (100, samples, bound, recipe), blocks)


def data_encoder(latents: int, start: Start) -> Encoder:
    """q(z | x) by 200-200."""
    body = net.FlatEncoder(net.MLP((200, 200), nn.tanh, start=start))
    head = GaussianHead(latents, exp_scale, start)
    return Encoder(body, head)


def data_decoder(view: a.View, start: Start) -> Decoder:
    """p(x | z) by 200-200."""
    mlp = net.MLP((200, 200), nn.tanh, start=start)
    return Decoder(
        net.FlatDecoder(mlp, view.dataset.spec.shape, start), view.likelihood
    )


def latent_network(latents: int, start: Start) -> GaussianNetwork:
    """A Gaussian over one layer of latents given the other, by 100-100."""
    body = net.MLP((100, 100), nn.tanh, start=start)
    return GaussianNetwork(body, latents, GaussianHead(latents, exp_scale, start))


def burda_recipe(
    model: nn.Module,
    view: a.View,
    training: Training,
    settings: tuple[int, int, str, str],
    blocks: Mapping[str, int] = MappingProxyType({}),
) -> Experiment:
    """The training of both; `settings` are latents that decode, k, bound and recipe.

    Where there are several `blocks` of latents, these are their sizes.
    """
    latents, samples, bound, recipe = settings
    require(samples >= 1, "samples", samples, "at least 1")
    objective = partial(pick("bound", bound, OBJECTIVES), samples=samples)
    metrics = a.latent_metrics(latents, view, blocks)
    made = a.one_player(model, objective, view, training, metrics)
    made = optimize.optimized_by(made, burda_adam(recipe, training, view.dataset))
    made = dataclasses.replace(made, begin=output_bias(view.dataset))
    if recipe == "code":
        made = dataclasses.replace(made, order=Stored)
    return a.chosen_by_bound(made, samples) if bound == "iwae" else made


def burda_adam(
    recipe: str, training: Training, dataset: Dataset
) -> optax.GradientTransformation:
    """Adam of the paper, or of the code, which is of the sum over a batch."""
    steps = epoch_steps(dataset, training) * training.epochs
    if recipe == "paper":
        return optimize.adam(training, steps, epsilon=1e-4)
    rate = optimize.scheduled_rate(training, steps, digits=1)
    of_sum = optax.scale(float(training.batch_size))
    return optax.chain(
        optimize.clipped(training, of_sum),
        early_epsilon_adam(0.99, epsilon=1e-4, square=1.0),
        optax.scale_by_learning_rate(rate),
    )


def output_bias(dataset: Dataset) -> Callable[[TrainState], TrainState]:
    """Sets the decoder's last biases to the logit of the mean training image."""

    def begin(state: TrainState) -> TrainState:
        bias = logit_of_mean(dataset)

        def with_bias(params: dict[str, Any]) -> dict[str, Any]:
            body = params["decoder"]["body"]
            last = body["Dense_0"]
            last = last | {"bias": bias.reshape(last["bias"].shape)}
            decoder = params["decoder"] | {"body": body | {"Dense_0": last}}
            return params | {"decoder": decoder}

        ema = with_bias(state.ema) if state.ema else state.ema
        return state._replace(params=with_bias(state.params), ema=ema)

    return begin


def logit_of_mean(dataset: Dataset) -> np.ndarray:
    """logit of the mean observed training image, clipped to [.001, .999]: float32."""
    arrays = dataset.split("train")
    mask = arrays.get("mask", np.ones((1, 1), np.uint8))
    seen = np.broadcast_to(mask, arrays["x"].shape).sum(0, dtype=np.int64)
    total = (arrays["x"] * mask).sum(0, dtype=np.int64)
    mean = total / np.maximum(seen, 1) / (dataset.spec.levels - 1)
    mean = np.clip(mean, 0.001, 0.999)
    return np.log(mean / (1 - mean)).astype(np.float32)
