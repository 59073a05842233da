"""Presets whose latents are to vary independently of each other."""

import dataclasses
import math
from functools import partial

import jax.numpy as jnp

from vaejax import objectives
from vaejax.configs import Data, Latents, LatentSize, Network, Training, Weight
from vaejax.errors import InputError, require
from vaejax.experiment import Experiment, Player
from vaejax.metrics import critic_scores
from vaejax.models import (
    CriticNetwork,
    CriticVAE,
    JointVAE,
    MixedEncoder,
    StandardNormal,
)
from vaejax.models.posteriors import CategoricalHead
from vaejax.models.priors import UniformCategories
from vaejax.nn.networks import MLP, FlatEncoder
from vaejax.nn.patches import LEAKY
from vaejax.objectives.covariance import Kind
from vaejax.objectives.total_correlation import Estimator
from vaejax.presets import arena
from vaejax.presets import assemble as a
from vaejax.presets.bodies import build_bodies
from vaejax.presets.posteriors import GAUSSIAN
from vaejax.presets.signature import preset

__all__ = ["beta_tcvae", "dip_vae", "factor_vae", "joint_vae"]

GREY = Data(binarize="none")


def require_gaussian(latent: Latents, why: str) -> None:
    """InputError where the posterior is none of those with marginals and moments."""
    if latent.posterior not in GAUSSIAN:
        raise InputError(
            f"{why}, of which --posterior {latent.posterior} has no formula: choose "
            f"{', '.join(GAUSSIAN[:-1])} or {GAUSSIAN[-1]}"
        )


def require_real_latents(latent: Latents, why: str) -> None:
    """InputError where latents are categories."""
    if latent.posterior == "categorical":
        raise InputError(
            f"{why}, and --posterior categorical has none: choose another, or joint_vae"
        )


def require_pairs(training: Training) -> None:
    """InputError where a batch has no pairs of examples to compare."""
    size = training.batch_size
    require(size >= 2, "batch_size", size, "at least 2, whose latents are compared")


@preset
def beta_tcvae(
    *,
    data: Data = GREY,
    network: Network = Network(),
    latent: Latents = Latents(10),
    weight: Weight = Weight(beta=6.0),
    alpha: float = 1.0,
    gamma: float = 1.0,
    estimator: Estimator = "weighted",
    training: Training = Training(epochs=60),
) -> Experiment:
    """The beta-TCVAE: beta weighs the total correlation [Chen et al. 2018b].

    Of the three parts of the KL term, mutual information, total correlation and the
    latents' divergences to the prior, `--beta` weighs the second. The parts are
    estimated from the batch: large batches are better (the authors' have 2,048).

    Args:
      alpha: weight of the mutual information of x and z.
      gamma: weight of the divergence of the latents' marginals to the prior.
      estimator: of q(z); weighted, biased by constants that the logged parts have too;
        or stratified, unbiased for q(z).
    """
    require(alpha >= 0, "alpha", alpha, "at least 0")
    require(gamma >= 0, "gamma", gamma, "at least 0")
    require_pairs(training)
    require_gaussian(latent, "beta_tcvae needs the density of each latent alone")
    view = a.open_data(data, network)
    objective = partial(
        objectives.decomposed_elbo,
        examples=view.dataset.spec.sizes["train"],
        estimator=estimator,
        alpha=alpha,
        gamma=gamma,
    )
    body = build_bodies(network, view.dataset)
    return a.vae_game(body, latent, view, training, objective, None, beta=weight)


@preset(tiny={"critic_hidden": (16, 16)})
def factor_vae(
    *,
    data: Data = GREY,
    network: Network = Network(),
    latent: Latents = Latents(10),
    gamma: float = 10.0,
    critic_hidden: tuple[int, ...] = (1000,) * 6,
    critic_learning_rate: float = 1e-4,
    training: Training = Training(epochs=60),
) -> Experiment:
    """The FactorVAE: a critic tells the total correlation of z [Kim & Mnih 2018].

    The critic tells z from latents that are permuted over the batch, each by itself.
    Its Adam has the decays .5 and .9 [Kim & Mnih 2018, appendix A].

    Args:
      gamma: weight of the total correlation, which the critic estimates.
      critic_hidden: widths of the critic's dense layers.
      critic_learning_rate: learning rate of the critic.
    """
    require(gamma >= 0, "gamma", gamma, "at least 0")
    rate = critic_learning_rate
    require(rate > 0, "critic_learning_rate", rate, "above 0")
    widths = bool(critic_hidden) and min(critic_hidden) >= 1
    require(widths, "critic_hidden", critic_hidden, "widths of at least 1")
    require_pairs(training)
    require_real_latents(latent, "factor_vae permutes real latents")
    view = a.open_data(data, network)
    vae = a.vae_model(build_bodies(network, view.dataset), latent, view)
    model = CriticVAE(
        encoder=vae.encoder,
        decoder=vae.decoder,
        critic=CriticNetwork(FlatEncoder(MLP(critic_hidden, LEAKY))),
        prior=vae.prior,
    )
    steps = arena.total_steps(view, training)
    own = dataclasses.replace(training, learning_rate=rate)
    judged = partial(
        objectives.adversarial.critic,
        loss=objectives.adversarial.LOSSES["logistic"],
        subjects=objectives.permuted_latents,
    )
    metrics = a.latent_metrics(latent.size, view)
    made = a.one_player(
        model,
        partial(objectives.factorized, gamma=gamma),
        view,
        training,
        lambda samples: {
            **metrics(samples),
            "critic": critic_scores(objectives.permuted_latents),
        },
    )
    (player,) = made.players.values()
    return dataclasses.replace(
        made,
        players={
            "vae": player._replace(owns=("encoder", "decoder", "prior")),
            "critic": Player(judged, a.adam(own, steps, 0.5, 0.9), ("critic",)),
        },
    )


@preset(tiny={"kind": "ii"})
def dip_vae(
    *,
    data: Data = GREY,
    network: Network = Network(),
    latent: Latents = Latents(10),
    kind: Kind = "i",
    off_diagonal: float = 10.0,
    diagonal_factor: float = 10.0,
    training: Training = Training(epochs=60),
) -> Experiment:
    """The DIP-VAE: latents whose covariance is the identity [Kumar et al. 2018].

    Args:
      kind: of penalty; i: of the covariance of posterior means; ii: of that of z.
      off_diagonal: weight of the squared covariances.
      diagonal_factor: weight of the variances' squared distance to 1, in units of
        off_diagonal; disentanglement_lib has 10 for kind i and 1 for ii.
    """
    require(off_diagonal >= 0, "off_diagonal", off_diagonal, "at least 0")
    require(diagonal_factor >= 0, "diagonal_factor", diagonal_factor, "at least 0")
    require_pairs(training)
    require_gaussian(latent, "dip_vae needs the covariance of z given x")
    objective = partial(
        objectives.disentangled_prior,
        kind=kind,
        off_diagonal=off_diagonal,
        diagonal=diagonal_factor * off_diagonal,
    )
    return a.generic_vae(data, network, latent, training, objective)


@preset(tiny={"category_values": 4, "growth": 1.0})
def joint_vae(
    *,
    data: Data = GREY,
    network: Network = Network(),
    latent: LatentSize = LatentSize(10),
    categorical_latents: int = 1,
    category_values: int = 10,
    temperature: float = 0.67,
    capacity: float = 5.0,
    category_capacity: float = 5.0,
    growth: float = 27.0,
    gamma: float = 30.0,
    training: Training = Training(epochs=100, batch_size=64, learning_rate=5e-4),
) -> Experiment:
    """The JointVAE: continuous latents beside categories [Dupont 2018].

    The KLs of both are held at capacities that grow in training. Draws of categories
    are exact, with the gradient of their Gumbel-softmax relaxation; the paper's are
    relaxed. Capacities, gamma, rate and batch are those of the authors' code for MNIST,
    where 25,000 steps of growth are 27 epochs.

    Args:
      categorical_latents: number of categorical latents, beside continuous `latents`.
      category_values: values of each of them.
      temperature: of the relaxation that gives draws of categories a gradient.
      capacity: KL of the continuous latents in nats at the end of its growth.
      category_capacity: that of the categories; held is at most what they can have,
        the logarithm of their values each.
      growth: epochs in which the capacities grow from zero.
      gamma: weight of the distances between KLs and capacities.
    """
    number, values = categorical_latents, category_values
    require(number >= 1, "categorical_latents", number, "at least 1")
    require(values >= 2, "category_values", values, "at least 2")
    require(temperature > 0, "temperature", temperature, "above 0")
    require(growth > 0, "growth", growth, "above 0")
    require(gamma >= 0, "gamma", gamma, "at least 0")
    require(capacity >= 0, "capacity", capacity, "at least 0")
    require(
        category_capacity >= 0, "category_capacity", category_capacity, "at least 0"
    )
    view = a.open_data(data, network)
    body = build_bodies(network, view.dataset)
    head = CategoricalHead(number, values, temperature)
    model = JointVAE(
        encoder=MixedEncoder(body.encoder, latent.latents, head, a.reader_of(view)),
        decoder=a.build_decoder(body, view),
        prior=StandardNormal(latent.latents),
        categories=UniformCategories(number, values),
    )
    most = jnp.minimum(category_capacity, number * math.log(values))
    blocks = {"z": latent.latents, "c": number * values}
    schedules = {
        name: a.weight_schedule(
            Weight(beta=held, schedule="linear", warm_up=growth), training, view.dataset
        )
        for name, held in {"target_z": capacity, "target_c": most}.items()
    }
    return a.one_player(
        model,
        partial(objectives.block_capacity, gamma=gamma),
        view,
        training,
        a.latent_metrics(sum(blocks.values()), view, blocks),
        schedules,
    )
