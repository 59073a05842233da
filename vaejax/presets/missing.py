"""Presets for examples with holes: their own, or those that are hidden (`--hide`)."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import flax.linen as nn

from vaejax import objectives
from vaejax.configs import Data, Latents, LatentSize, Network, Training, Weight
from vaejax.data.context import anything, with_context
from vaejax.distributions.columns import mixed
from vaejax.errors import InputError, require
from vaejax.experiment import Experiment
from vaejax.models import (
    ArbitraryCompletion,
    Blind,
    Constant,
    Context,
    GaussianEncoder,
    LogisticMissingness,
    MissingVAE,
    SelfMasking,
    SetEncoder,
    Whole,
    WithMask,
)
from vaejax.models import likelihoods as li
from vaejax.nn import networks as net
from vaejax.presets import assemble as a
from vaejax.presets.bodies import build_bodies
from vaejax.presets.bounds import Importance, trained_by_bound
from vaejax.presets.choice import pick
from vaejax.presets.signature import preset

__all__ = ["miwae", "not_miwae", "partial_vae", "vae_completion"]

TABLE = Data(dataset="breast_cancer", binarize="none")
NETWORK = Network(activation="tanh", hidden=(128, 128), likelihood="student_t")
REPARAMETERIZED = (
    li.Gaussian,
    li.GaussianFixed,
    li.GaussianOptimal,
    li.GaussianPixel,
    li.Laplace,
    li.StudentT,
)
Fill = Literal["zero", "constant", "mask"]
Process = Literal["self_masking", "high_missing", "low_missing", "linear", "neural"]


@preset(tiny={"likelihood": "bernoulli", "hide": "mcar", "fill": "mask"})
def miwae(
    *,
    data: Data = TABLE,
    network: Network = NETWORK,
    latent: Latents = Latents(10),
    fill: Fill = "zero",
    input_dropout: float = 0.0,
    importance: Importance = Importance(samples=20),
    weight: Weight = Weight(),
    training: Training = Training(epochs=500, batch_size=64),
) -> Experiment:
    """MIWAE: an importance-weighted bound of observed entries [Mattei & Frellsen 2019].

    For entries that are missing (completely) at random.

    Args:
      fill: what the encoder sees in a hole: zero, a learned constant, or zero and the
        mask beside.
      input_dropout: share of the observed entries that the encoder does not see, other
        ones in each step, so that it does not learn large examples by heart.
    """
    view = a.open_data(data, network)
    body = build_bodies(network, view.dataset)
    experiment = a.one_player(
        a.vae_model(body, latent, view, reader=reader(fill, input_dropout)),
        objectives.weighted,
        view,
        training,
        a.latent_metrics(latent.size, view),
        {"beta": a.weight_schedule(weight, training, view.dataset)},
    )
    return trained_by_bound(experiment, importance)


def reader(fill: Fill, input_dropout: float) -> nn.Module | None:
    """How the encoder reads examples with holes."""
    require(0 <= input_dropout < 1, "input_dropout", input_dropout, "in [0, 1)")
    known: Mapping[str, Callable[[], nn.Module | None]] = {
        "zero": lambda: None,
        "constant": Constant,
        "mask": WithMask,
    }
    found = pick("fill", fill, known)()
    return Blind(input_dropout, found) if input_dropout else found


@preset(tiny={"hide": "mcar", "binarize": "none"})
def not_miwae(
    *,
    data: Data = TABLE,
    network: Network = Network(
        activation="tanh", hidden=(128, 128), likelihood="gaussian_pixel"
    ),
    latent: Latents = Latents(10),
    process: Process = "self_masking",
    fill: Fill = "zero",
    input_dropout: float = 0.0,
    samples: int = 20,
    weight: Weight = Weight(),
    training: Training = Training(epochs=500, batch_size=64),
) -> Experiment:
    """not-MIWAE, for entries missing not at random: p(m | x) too [Ipsen et al. 2021].

    Args:
      process: why entries are missing: self_masking by their own value (high_missing
        and low_missing where it is known which values are), linear or neural in all
        entries.
      fill: what the encoder sees in a hole: zero, a learned constant, or zero and the
        mask beside.
      input_dropout: share of the observed entries that the encoder does not see, other
        ones in each step, so that it does not learn large examples by heart.
      samples: importance samples of the bound.
    """
    require(samples >= 1, "samples", samples, "at least 1")
    view = a.open_data(data, network)
    if not isinstance(view.likelihood, REPARAMETERIZED):
        raise InputError(
            f"not_miwae draws what is missing and needs its gradient, which "
            f"{type(view.likelihood).__name__} has not: use real columns or greys and "
            "--likelihood gaussian_pixel, gaussian, laplace or student_t, or miwae"
        )
    body = build_bodies(network, view.dataset)
    plain = a.vae_model(body, latent, view, reader=reader(fill, input_dropout))
    model = MissingVAE(
        encoder=plain.encoder,
        decoder=plain.decoder,
        prior=plain.prior,
        missing=missingness(process, network),
    )
    experiment = a.one_player(
        model,
        partial(objectives.iwae, samples=samples),
        view,
        training,
        a.latent_metrics(latent.size, view),
        {"beta": a.weight_schedule(weight, training, view.dataset)},
    )
    return a.chosen_by_bound(experiment, samples)


def missingness(process: Process, network: Network) -> nn.Module:
    """The model of why entries are missing."""
    known: Mapping[str, Callable[[], nn.Module]] = {
        "self_masking": SelfMasking,
        "high_missing": lambda: SelfMasking(1),
        "low_missing": lambda: SelfMasking(-1),
        "linear": LogisticMissingness,
        "neural": lambda: LogisticMissingness(net.MLP(network.hidden[:1], nn.tanh)),
    }
    return pick("process", process, known)()


@preset(tiny={"likelihood": "bernoulli", "hide": "half"})
def partial_vae(
    *,
    data: Data = TABLE,
    network: Network = NETWORK,
    latent: Latents = Latents(10),
    embedding: int = 20,
    code: int = 100,
    weight: Weight = Weight(),
    training: Training = Training(epochs=500, batch_size=64),
) -> Experiment:
    """The Partial VAE, whose encoder sums over what is observed [Ma et al. 2019].

    Args:
      embedding: numbers that stand for the place of an entry.
      code: numbers that the entries are summed as.
    """
    require(embedding >= 1, "embedding", embedding, "at least 1")
    require(code >= 1, "code", code, "at least 1")
    view = a.open_data(data, network)
    body = build_bodies(network, view.dataset)
    sums = SetEncoder(embedding, code)
    return a.one_player(
        a.vae_model(body, latent, view, reader=sums),
        objectives.elbo,
        view,
        training,
        a.latent_metrics(latent.size, view),
        {"beta": a.weight_schedule(weight, training, view.dataset)},
    )


@preset(tiny={"hide": "mcar"})
def vae_completion(
    *,
    data: Data = Data(),
    network: Network = Network(hidden=(512,)),
    latent: LatentSize = LatentSize(32),
    training: Training = Training(epochs=100, decay="cosine"),
) -> Experiment:
    """A VAE of any part given any other, for images and tables [Ivanov et al. 2019].

    At every access another part is seen: pixels, all but a rectangle, a half; entries
    of a table. Likelihoods are those of what is not seen.
    """
    view = a.open_data(data, network)
    if mixed(view.dataset.spec.columns):
        raise InputError("vae_completion reads numbers only: use miwae for categories")
    view = view._replace(preprocess=with_context(view.preprocess, anything))
    body = build_bodies(network, view.dataset)
    prior_body = build_bodies(
        network, view.dataset
    )  # one instance has one set of weights
    model = ArbitraryCompletion(
        encoder=GaussianEncoder(body.encoder, latent.latents, reader=Whole()),
        decoder=a.build_decoder(body, view, Context(flat=True)),
        prior_network=GaussianEncoder(
            prior_body.encoder, latent.latents, reader=Context()
        ),
    )
    return a.one_player(
        model,
        objectives.completion.arbitrary,
        view,
        training,
        a.latent_metrics(latent.latents, view),
    )
