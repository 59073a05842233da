"""Conditional models: on a label, or on the part of an image that is seen."""

from functools import partial
from typing import Literal

from vaejax import objectives
from vaejax.configs import Critic, Data, Latents, Network, Training, Weight
from vaejax.data.context import always, seen_region, with_context
from vaejax.data.kinds import require_images
from vaejax.errors import require
from vaejax.experiment import Experiment, Metric, Player, epoch_steps
from vaejax.metrics import (
    baseline_nll,
    classification,
    count,
    likelihood_metrics,
    monte_carlo_nll,
)
from vaejax.models import Baseline, Classifier, Completion, GaussianNetwork, Judge
from vaejax.models import likelihoods as li
from vaejax.nn import networks as net
from vaejax.presets import arena
from vaejax.presets import assemble as a
from vaejax.presets.bodies import DENSE, LONG, Bodies, build_bodies, mlp_bodies
from vaejax.presets.signature import preset
from vaejax.training.gating import until

__all__ = ["classifier", "cvae", "cvae_sohn"]


@preset
def cvae(
    *,
    data: Data = Data(),
    network: Network = DENSE,
    latent: Latents = Latents(10),
    weight: Weight = Weight(),
    training: Training = LONG,
) -> Experiment:
    """The label-conditional VAE, for any labelled data [Kingma et al. 2014, M2].

    q(z | x, y) and p(x | z, y); the prior of z is the same for all labels.
    """
    view = a.open_data(data, network)
    return a.vae_game(
        build_bodies(network, view.dataset),
        latent,
        view,
        training,
        objectives.elbo,
        a.label(view.dataset),
        beta=weight,
    )


@preset
def cvae_sohn(
    *,
    data: Data = Data(binarize="none"),
    seen: Literal[
        "quadrant", "two_quadrants", "three_quadrants", "top", "left"
    ] = "quadrant",
    hidden: tuple[int, ...] = (500, 500),
    latents: int = 200,
    alpha: float = 1.0,
    baseline_epochs: int = 10,
    training: Training = Training(epochs=30),
) -> Experiment:
    """Completion of an image of which a part is seen [Sohn et al. 2015].

    A deterministic baseline guesses the rest; a prior network p(z | context) sees the
    guess pasted in; the decoder sees z alone, as in Pyro's tutorial. Both train in
    one run: the baseline in its first epochs, the rest throughout. Likelihoods are
    those of the pixels that are not seen.

    Args:
      seen: the region that is conditioned on.
      hidden: widths of the encoder's dense layers, mirrored in the decoder.
      latents: number of latents.
      alpha: share of the conditional ELBO in the hybrid objective; the rest is GSNN.
      baseline_epochs: epochs in which the baseline moves.
    """
    require(0 <= alpha <= 1, "alpha", alpha, "in [0, 1]")
    require(baseline_epochs >= 1, "baseline_epochs", baseline_epochs, "at least 1")
    view = a.open_data(data, li.Bernoulli())
    a.require_complete(view)
    require_images(view.dataset.spec, "cvae_sohn")
    height, width, _ = view.dataset.spec.shape
    region = seen_region(height, width, seen)
    preprocess = with_context(view.preprocess, always(region), region)
    view = view._replace(preprocess=preprocess)
    epoch = epoch_steps(view.dataset, training)
    total = epoch * training.epochs
    players = {
        "cvae": Player(
            partial(objectives.completion.hybrid, alpha=alpha),
            a.adam(training, total),
            ("encoder", "decoder", "prior_network"),
        ),
        "baseline": Player(
            objectives.completion.baseline,
            a.adam(training, epoch * baseline_epochs),
            ("baseline",),
            gate=until(epoch * baseline_epochs),
        ),
    }
    return Experiment(
        model=completion_model(hidden, latents, view),
        players=players,
        dataset=view.dataset,
        preprocess=view.preprocess,
        metrics=completion_metrics,
        selection=a.negative_elbo,
        training=training,
        notes=view.notes,
        likelihood=view.chosen,
    )


def completion_model(hidden: tuple[int, ...], latents: int, view: a.View) -> Completion:
    """Four networks of the same widths: an instance would share its weights."""

    def network() -> Bodies:
        return mlp_bodies(hidden, "relu")

    guess = net.FlatDecoder(net.MLP(()), view.dataset.spec.shape)
    return Completion(
        encoder=GaussianNetwork(network().encoder, latents),
        decoder=a.build_decoder(network(), view),
        prior_network=GaussianNetwork(network().encoder, latents),
        baseline=Baseline(network().encoder, guess, li.Bernoulli()),
    )


def completion_metrics(samples: int) -> dict[str, Metric]:
    """The conditional likelihood by posterior, prior and baseline."""
    sampled = {"monte_carlo": monte_carlo_nll(samples)} if samples else {}
    return {
        **likelihood_metrics(samples, log_bin=0.0),
        **sampled,
        "baseline": baseline_nll(),
        "count": count(),
    }


@preset
def classifier(
    *,
    data: Data = Data(binarize="none"),
    network: Network = Network(hidden=(256, 128)),
    training: Training = Training(epochs=30, batch_size=64, decay="cosine"),
) -> Experiment:
    """A classifier, whose accuracy and features measure what other models generate.

    Of features, the Frechet distance [Heusel et al. 2017] and the kernel distance
    [Binkowski et al. 2018].
    """
    view = arena.open_generator_data(data)
    classes = a.label(view.dataset).classes
    body = arena.critic_body(network, Critic(), view.dataset)
    steps = arena.total_steps(view, training)
    player = Player(
        objectives.vaegan.classify, a.adam(training, steps), ("classifier",)
    )
    return arena.game(
        Judge(Classifier(body, classes)),
        {"classifier": player},
        view,
        training,
        {"classification": classification(), "count": count()},
        "cross_entropy",
    )
