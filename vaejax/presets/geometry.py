"""Presets whose latents move, or live on a curved space."""

from typing import Literal

from vaejax import objectives
from vaejax.configs import Data, Latents, LatentSize, Network, Training, Weight
from vaejax.distributions.spheres import MOST_AXES
from vaejax.errors import require
from vaejax.experiment import Experiment
from vaejax.models import VAE, Encoder, HamiltonianVAE, LearnedDynamics
from vaejax.models.hamiltonian import LARGEST_STEP
from vaejax.models.poincare import (
    GyroplaneBody,
    WrappedNormalHead,
    WrappedNormalPrior,
)
from vaejax.models.spherical import SpherePrior, VonMisesFisherHead
from vaejax.presets import assemble as a
from vaejax.presets.bodies import build_bodies
from vaejax.presets.disentangling import require_real_latents
from vaejax.presets.signature import preset

__all__ = ["hamiltonian_vae", "hyperspherical_vae", "poincare_vae"]


@preset(tiny={"leapfrog_steps": 2})
def hamiltonian_vae(
    *,
    data: Data = Data(),
    network: Network = Network(hidden=(300,), activation="softplus"),
    latent: Latents = Latents(64),
    leapfrog_steps: int = 4,
    step_size: float = 0.05,
    tempering: float = 0.3,
    weight: Weight = Weight(),
    training: Training = Training(epochs=60, batch_size=100, learning_rate=5e-4),
) -> Experiment:
    """A VAE whose latents follow Hamiltonian dynamics [Caterini et al. 2018].

    Latents that q(z | x) drew move by gradients of log p(x, z); step sizes and the
    temperature are learned. (`hvae_tomczak` is another HVAE, a hierarchy.)

    Args:
      leapfrog_steps: steps K of the dynamics, of a gradient each; 0: a VAE.
      step_size: size of a step where training begins, below .5.
      tempering: inverse temperature beta_0 where training begins; 1: no tempering.
    """
    require(leapfrog_steps >= 0, "leapfrog_steps", leapfrog_steps, "at least 0")
    inside = 0 < step_size < LARGEST_STEP
    require(inside, "step_size", step_size, f"above 0 and below {LARGEST_STEP}")
    require(0 < tempering <= 1, "tempering", tempering, "above 0 and at most 1")
    require_real_latents(latent, "hamiltonian_vae moves real latents")
    view = a.open_data(data, network)
    vae = a.vae_model(build_bodies(network, view.dataset), latent, view)
    model = HamiltonianVAE(
        encoder=vae.encoder,
        decoder=vae.decoder,
        prior=vae.prior,
        dynamics=LearnedDynamics(latent.latents, leapfrog_steps, step_size, tempering),
    )
    return a.one_player(
        model,
        objectives.elbo,
        view,
        training,
        a.latent_metrics(latent.size, view),
        {"beta": a.weight_schedule(weight, training, view.dataset)},
    )


@preset
def hyperspherical_vae(
    *,
    data: Data = Data(),
    network: Network = Network(hidden=(256, 128)),
    latent: LatentSize = LatentSize(10),
    weight: Weight = Weight(),
    training: Training = Training(epochs=60),
) -> Experiment:
    """The hyperspherical VAE: latents on the unit sphere [Davidson et al. 2018].

    A von Mises-Fisher posterior, and a uniform prior. `--latents` are the numbers that
    a point has, one more than the sphere has dimensions: 10 are the sphere S^9.
    """
    axes = latent.latents
    require(2 <= axes <= MOST_AXES, "latents", axes, f"from 2 to {MOST_AXES}")
    view = a.open_data(data, network)
    body = build_bodies(network, view.dataset)
    reader = a.reader_of(view)
    model = VAE(
        encoder=Encoder(body.encoder, VonMisesFisherHead(axes), None, reader),
        decoder=a.build_decoder(body, view),
        prior=SpherePrior(axes),
    )
    return a.one_player(
        model,
        objectives.elbo,
        view,
        training,
        a.latent_metrics(axes, view),
        {"beta": a.weight_schedule(weight, training, view.dataset)},
    )


@preset
def poincare_vae(
    *,
    data: Data = Data(),
    network: Network = Network(hidden=(600,)),
    latent: LatentSize = LatentSize(10),
    curvature: float = 0.7,
    prior_scale: float = 1.0,
    first_layer: Literal["gyroplane", "dense"] = "gyroplane",
    weight: Weight = Weight(),
    training: Training = Training(epochs=80),
) -> Experiment:
    """The Poincare VAE: latents in a hyperbolic space [Mathieu et al. 2019].

    Prior and posterior are wrapped normals on the Poincare ball.

    Args:
      curvature: minus the curvature of the space (c), above 0.
      prior_scale: standard deviation of distances from the center under p(z).
      first_layer: of the decoder; gyroplane: distances to hyperplanes of the ball;
        dense: of the coordinates.
    """
    require(curvature > 0, "curvature", curvature, "above 0")
    require(prior_scale > 0, "prior_scale", prior_scale, "above 0")
    view = a.open_data(data, network)
    body = build_bodies(network, view.dataset)
    head = WrappedNormalHead(latent.latents, curvature)
    decoder = a.build_decoder(body, view)
    if first_layer == "gyroplane":
        planes = GyroplaneBody(decoder.body, network.hidden[-1], curvature)
        decoder = decoder.clone(body=planes)
    model = VAE(
        encoder=Encoder(body.encoder, head, None, a.reader_of(view)),
        decoder=decoder,
        prior=WrappedNormalPrior(latent.latents, curvature, prior_scale),
    )
    return a.one_player(
        model,
        objectives.elbo,
        view,
        training,
        a.latent_metrics(latent.latents, view),
        {"beta": a.weight_schedule(weight, training, view.dataset)},
    )
