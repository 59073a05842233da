"""Hierarchies of latents whose posterior goes down from the top block."""

from functools import partial
from typing import Literal

import optax

from vaejax import objectives
from vaejax.configs import Data, Latents, LikelihoodName, Network, Training, Weight
from vaejax.errors import InputError, require
from vaejax.experiment import Experiment, epoch_steps
from vaejax.models import Decoder, GaussianNetwork
from vaejax.models import likelihoods as li
from vaejax.models.heads import GaussianHead, clipped_scale
from vaejax.models.ladder import (
    HVAE,
    JointEncoder,
    LadderEncoder,
    LadderPrior,
    LadderVAE,
    NormedHead,
    TopOf,
)
from vaejax.nn import networks as net
from vaejax.nn.branches import BranchedDecoder
from vaejax.nn.starts import HE
from vaejax.presets import assemble as a
from vaejax.presets import optimize
from vaejax.presets.bodies import ACTIVATIONS
from vaejax.presets.posteriors import build_encoder, build_head
from vaejax.presets.priors import build_prior
from vaejax.presets.signature import preset
from vaejax.presets.tomczak import DATA, TRAINING, gated_dense, published_vamp_prior
from vaejax.training.schedules import epoch_warm_up

__all__ = ["hvae_tomczak", "ladder_vae"]

WIDTH = 300
Recipe = Literal["paper", "code"]
NormName = Literal["batch", "none"]


@preset(tiny={"validation": 100, "components": 4, "lower_latents": 2})
def hvae_tomczak(
    *,
    data: Data = DATA,
    latent: Latents = Latents(40, prior="vamp"),
    lower_latents: int = 40,
    warm_up: int = 100,
    training: Training = TRAINING,
) -> Experiment:
    """The VAE of two layers with a VampPrior on top [Tomczak & Welling 2018, sec. 3].

    q(z2 | x) by 300-300; q(z1 | x, z2) by 300 of x and 300 of z2, then 300 of both;
    p(z1 | z2) by 300-300; p(x | z1, z2) by 300 of each, then 300 of both: gated dense
    layers. Everything else is as in `vae_tomczak`: optimizer, pseudo-inputs, data and
    warm-up are those of the authors' code.

    Args:
      lower_latents: latents of z1; `latents` are those of z2, which has the prior.
      warm_up: epochs in which the weight of the KL term rises; 0: none.
    """
    require(lower_latents >= 1, "lower_latents", lower_latents, "at least 1")
    require(warm_up >= 0, "warm_up", warm_up, "at least 0")
    view = a.open_data(data, li.Bernoulli())
    blocks = {"z1": lower_latents, "z2": latent.size}
    each = epoch_steps(view.dataset, training)
    made = a.one_player(
        tomczak_hvae(view, latent, lower_latents),
        partial(objectives.averaged_elbo, samples=1),
        view,
        training,
        a.latent_metrics(sum(blocks.values()), view, blocks),
        {"beta": epoch_warm_up(warm_up, each)},
    )
    moves = optimize.adam_norm_grad(training, each * training.epochs)
    return optimize.optimized_by(made, moves)


def tomczak_hvae(view: a.View, latent: Latents, lower_latents: int) -> HVAE:
    """The model of `hvae_tomczak`."""
    spec = view.dataset.spec
    one, two = (WIDTH,), (WIDTH, WIDTH)
    head = partial(GaussianHead, scale=clipped_scale, start=HE)
    body = net.FlatEncoder(gated_dense(two))
    encoder = build_encoder(body, latent, base=head(latent.latents))
    if latent.prior == "vamp":
        prior = published_vamp_prior(encoder, latent, view)
    else:
        prior = build_prior(latent, encoder, spec, view.preprocess)
    of_x = net.FlatEncoder(gated_dense(one))
    of_z, joint, low, high, both = (gated_dense(one) for _ in range(5))
    return HVAE(
        encoder=encoder,
        lower_encoder=JointEncoder(of_x, of_z, joint, head(lower_latents)),
        decoder=Decoder(
            BranchedDecoder(low, high, both, lower_latents, spec.shape, HE),
            view.likelihood,
        ),
        lower_decoder=GaussianNetwork(
            gated_dense(two), lower_latents, head(lower_latents)
        ),
        prior=prior,
    )


@preset(tiny={"lower_latents": (4,), "layer_hidden": (8, 6), "norm": "none"})
def ladder_vae(
    *,
    data: Data = Data(dataset="mnist"),
    latent: Latents = Latents(16),
    lower_latents: tuple[int, ...] = (64, 32),
    layer_hidden: tuple[int, ...] = (512, 256, 128),
    layer_depth: int = 2,
    norm: NormName = "batch",
    likelihood: LikelihoodName = "auto",
    recipe: Recipe = "paper",
    free_bits: float = 0.0,
    weight: Weight = Weight(schedule="linear", warm_up=200),
    training: Training = Training(
        epochs=2000, batch_size=256, learning_rate=2e-4, clip=4.0
    ),
) -> Experiment:
    """The ladder VAE: the posterior corrects the prior, layer by layer.

    [Sonderby et al. 2016]. Two dense layers between blocks, leaky ReLU, batch
    normalization of every layer but the last, variances by a softplus; the KL term
    warms up over 200 epochs. Sizes, rates and clipping (of the norm to 4, then of each
    entry to 0.9) are those of the example in the authors' code, Adam's epsilon is 1e-4.
    The KL term of the loss is analytic; the code samples it.

    `--recipe code` has what the code does by default where it differs from the paper:
    the way down of the posterior has networks of its own beside those of the prior, and
    the way up goes on from the means of each block in place of the features.

    Args:
      lower_latents: latents of the blocks below the top one, from the data upwards;
        `latents` are those of the top block, which has the prior.
      layer_hidden: width of the dense layers below each block, from the data upwards.
      layer_depth: dense layers below each block.
      norm: batch normalizes all but the last layer; none does not.
      likelihood: p(x | z); auto: bernoulli of nearly binary images, logistic_mixture of
        others, gaussian of tables.
      recipe: paper, or code, as told above.
      free_bits: nats of KL of each latent left alone: of all of z_L if p(z_L) is joint.
    """
    check_layers(latent, lower_latents, layer_hidden, norm)
    require(layer_depth >= 1, "layer_depth", layer_depth, "at least 1")
    require(free_bits >= 0, "free_bits", free_bits, "at least 0")
    view = a.open_data(data, Network(likelihood=likelihood))
    sizes = (*lower_latents, latent.size)
    widths = tuple((width,) * layer_depth for width in layer_hidden)
    made = a.one_player(
        ladder_model(view, latent, sizes, widths, norm, recipe),
        partial(objectives.elbo, free_bits=free_bits),
        view,
        training,
        a.latent_metrics(
            sizes[0], view, {f"z{i + 1}": size for i, size in enumerate(sizes)}
        ),
        {"beta": a.weight_schedule(weight, training, view.dataset)},
    )
    steps = epoch_steps(view.dataset, training) * training.epochs
    moves = optimize.scheduled_rate(training, steps)
    each = optax.chain(optax.clip(0.9), optax.adam(moves, eps=1e-4))
    return optimize.optimized_by(made, optimize.clipped(training, each))


def check_layers(
    latent: Latents, lower: tuple[int, ...], hidden: tuple[int, ...], norm: str
) -> None:
    """InputError where the layers of a ladder do not fit each other."""
    sizes = bool(lower) and min(lower) >= 1
    require(sizes, "lower_latents", lower, "numbers of at least 1")
    widths = bool(hidden) and min(hidden) >= 1
    require(widths, "layer_hidden", hidden, "widths of at least 1")
    if len(hidden) != len(lower) + 1:
        raise InputError(
            f"--layer-hidden has {len(hidden)} widths, for {len(lower) + 1} blocks: "
            "give one for each of --lower-latents, and one for the top block"
        )
    require_no_norm(latent, norm)


def require_no_norm(latent: Latents, norm: str) -> None:
    """InputError where pseudo-inputs would pass through a batch norm."""
    if latent.prior == "vamp" and norm == "batch":
        raise InputError(
            "--prior vamp would mix the statistics of its pseudo-inputs with those of "
            "the data in each batch norm: choose --norm none, or --prior mixture"
        )


def ladder_model(
    view: a.View,
    latent: Latents,
    sizes: tuple[int, ...],
    widths: tuple[tuple[int, ...], ...],
    norm: str,
    recipe: Recipe,
) -> LadderVAE:
    """The model of `ladder_vae`; `sizes` and `widths` are from the data upwards."""
    spec, code = view.dataset.spec, recipe == "code"
    act = ACTIVATIONS["leaky_relu"]

    def dense(hidden: tuple[int, ...]) -> net.MLP:
        return net.MLP(hidden, act, norm=norm)

    def rungs(widths: tuple[tuple[int, ...], ...]) -> LadderPrior:
        """Gaussians over all blocks but the top one; a width for each."""
        below = zip(widths, sizes, strict=False)
        return LadderPrior(
            tuple(
                GaussianNetwork(dense(hidden), size, NormedHead(size, norm))
                for hidden, size in below
            )
        )

    first, *others = (dense(hidden) for hidden in widths)
    bodies = (net.FlatEncoder(first), *others)
    top = build_head(latent, NormedHead(latent.latents, norm))
    heads = (*(NormedHead(size, norm) for size in sizes[:-1]), top)
    encoder = LadderEncoder(bodies, heads, code, a.reader_of(view))
    places, channels = spec.shape[:-1], view.likelihood.outputs(spec.shape[-1])
    decoder = net.FlatDecoder(dense(widths[0]), (*places, channels))
    return LadderVAE(
        encoder=encoder,
        down=rungs(widths[:-1] if code else widths[1:]),
        decoder=Decoder(decoder, view.likelihood),
        prior=build_prior(latent, TopOf(encoder), spec, view.preprocess),
        posterior_down=rungs(widths[1:]) if code else None,
    )
