"""The VAE with a VampPrior as its authors' code has it, and its parts."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from vaejax import objectives
from vaejax.configs import Data, Latents, Training
from vaejax.errors import require
from vaejax.experiment import Experiment, epoch_steps
from vaejax.models import VAE, Decoder, VampPrior
from vaejax.models import likelihoods as li
from vaejax.models.heads import GaussianHead, clipped_scale
from vaejax.nn import networks as net
from vaejax.nn.starts import HE, normal_around
from vaejax.presets import assemble as a
from vaejax.presets import optimize
from vaejax.presets.posteriors import build_encoder
from vaejax.presets.priors import UNIT, build_prior
from vaejax.presets.signature import preset
from vaejax.training.schedules import epoch_warm_up
from vaejax.types import Array

__all__ = ["vae_tomczak"]

DATA = Data(dataset="mnist", validation=10_000, binarize="dynamic_train")
TRAINING = Training(
    epochs=2000,
    batch_size=100,
    learning_rate=5e-4,
    patience=51,
    evaluate_every=1,
    checkpoint_every=5000,
)
WIDTHS = (300, 300)
PSEUDO_INPUTS = 500
near_black = normal_around(0.05, 0.01)
"""How pseudo-inputs begin where images are binarized dynamically."""


@preset(tiny={"validation": 100, "components": 4})
def vae_tomczak(
    *,
    data: Data = DATA,
    latent: Latents = Latents(40, prior="vamp"),
    warm_up: int = 100,
    training: Training = TRAINING,
) -> Experiment:
    """The VAE of one layer with a VampPrior [Tomczak & Welling 2018, sec. 4].

    784-300-300-40-300-300-784 of gated dense layers, log variances clipped to [-6, 2],
    He's initialization; 500 pseudo-inputs (`--components 0`) clipped to [0, 1], from
    N(.05, .01^2) on; gradients divided by their norms, tensor by tensor, then Adam.
    The last 10,000 training images and the test images are binarized once, by NumPy's
    seed 777; those of training at each access. The ELBO is of one draw, its KL term
    too, whose weight rises epoch by epoch to 1; training ends after 51 epochs that were
    no better on validation data, none of them in the warm-up. `--prior standard` is
    the paper's other column.

    All is as in the authors' code, which says more than the paper, but for two things:
    it clips probabilities to [1e-5, 1 - 1e-5], and TFDS has the images in another
    order, so that other ones validate.

    Args:
      warm_up: epochs in which the weight of the KL term rises; 0: none.
    """
    require(warm_up >= 0, "warm_up", warm_up, "at least 0")
    view = a.open_data(data, li.Bernoulli())
    each = epoch_steps(view.dataset, training)
    made = a.one_player(
        tomczak_vae(view, latent),
        partial(objectives.averaged_elbo, samples=1),
        view,
        training,
        a.latent_metrics(latent.size, view),
        {"beta": epoch_warm_up(warm_up, each)},
    )
    moves = optimize.adam_norm_grad(training, each * training.epochs)
    return optimize.optimized_by(made, moves)


def tomczak_vae(view: a.View, latent: Latents) -> VAE:
    """The model of `vae_tomczak`."""
    spec = view.dataset.spec
    body = net.FlatEncoder(gated_dense(WIDTHS))
    head = GaussianHead(latent.latents, clipped_scale, HE)
    encoder = build_encoder(body, latent, base=head)
    if latent.prior == "vamp":
        prior = published_vamp_prior(encoder, latent, view)
    else:
        prior = build_prior(latent, encoder, spec, view.preprocess)
    decoder = net.FlatDecoder(gated_dense(WIDTHS), spec.shape, HE)
    return VAE(encoder=encoder, decoder=Decoder(decoder, view.likelihood), prior=prior)


def published_vamp_prior(
    encoder: nn.Module, latent: Latents, view: a.View
) -> VampPrior:
    """The VampPrior of the authors' code: pseudo-inputs clipped, 500 by default."""
    unit = view.preprocess.values in UNIT
    count = latent.components or PSEUDO_INPUTS
    return VampPrior(encoder, count, unit, bound=clip_to_unit, begin=near_black)


def gated_dense(widths: tuple[int, ...]) -> net.MLP:
    """Gated dense layers with He's initialization."""
    return net.MLP(widths, start=HE, gated=True)


def clip_to_unit(x: Array) -> Array:
    """x clipped to [0, 1]: PyTorch's hardtanh."""
    return jnp.clip(x, 0.0, 1.0)
