"""Builds experiments from settings: here, and only here, strings become functions."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import flax.linen as nn
import optax

from vaejax.configs import Data, Latents, Network, Training, Weight
from vaejax.data import Dataset, open_dataset
from vaejax.data.holes import hide
from vaejax.data.kinds import kind_of
from vaejax.data.opening import OPENERS
from vaejax.data.preprocess import Preprocess, preprocess
from vaejax.data.splits import binarized_once
from vaejax.distributions.columns import Table, mixed
from vaejax.errors import InputError, require
from vaejax.experiment import Experiment, Metric, Player, epoch_steps
from vaejax.inference.terms import log_mean_exp
from vaejax.metrics import (
    block_metrics,
    importance_bound,
    imputation,
    likelihood_metrics,
    quality_metrics,
    representation_metrics,
)
from vaejax.models import VAE, Decoder, Label
from vaejax.models import likelihoods as li
from vaejax.models.columns import Reader
from vaejax.presets.bodies import Bodies, build_bodies
from vaejax.presets.choice import pick
from vaejax.presets.likelihood import (
    chosen_words,
    fixed_words,
    likelihood_name,
    likelihood_note,
    named_likelihood,
)
from vaejax.presets.optimize import adam
from vaejax.presets.posteriors import build_encoder
from vaejax.presets.priors import build_prior
from vaejax.presets.rates import for_counts
from vaejax.runtime.limits import MOST
from vaejax.stages.opening import DRAWS, PREFIX, open_draws, open_latents
from vaejax.training.schedules import SCHEDULES
from vaejax.types import Array, Objective, Shape

# As the data are opened here, and nowhere below.
OPENERS |= {PREFIX: open_latents, DRAWS: open_draws}

OF_LINEN = ("parent", "name")
"""Fields of a Linen module that are none of its parts."""


def label(data: Dataset) -> Label:
    """The label as a condition; InputError where the data has none."""
    if not data.spec.classes:
        raise InputError(f"{data.spec.name} has no labels to condition on")
    if data.spec.unseen:
        raise InputError(
            f"{data.spec.name} has examples of {', '.join(data.spec.unseen)} to test "
            "on, which training has none of: leave these examples out, or train on some"
        )
    return Label(data.spec.classes)


class View(NamedTuple):
    """The data as a model sees it, and the likelihood that the model gives to it."""

    dataset: Dataset
    preprocess: Preprocess
    likelihood: li.Likelihood
    notes: tuple[str, ...] = ()
    """Lines about an example and its likelihood that a run prints."""
    chosen: str = ""
    """The likelihood by the name in the settings, if they choose it."""


def open_data(
    settings: Data,
    likelihood: li.Likelihood | Network,
    partly: bool = False,
) -> View:
    """Opens the data and checks that the likelihood is one for it.

    Where a network names the likelihood, `auto` is what `likelihood_name` says.
    Training examples without a label are refused, unless labels may be known `partly`.
    """
    dataset = hide(
        open_dataset(
            settings.dataset,
            settings.validation,
            settings.counts,
            settings.categories,
            settings.reading,
            table=settings.csv,
        ),
        settings.hide,
        settings.hide_rate,
        settings.hide_columns,
        settings.hide_seed,
    )
    if dataset.spec.unlabelled and not partly:
        raise InputError(
            f"{dataset.spec.name} has {dataset.spec.unlabelled:,} training examples "
            "without a label (y = -1), which only m2 learns from: leave them out, or "
            "give no labels"
        )
    binarize = settings.binarize
    if binarize == "dynamic_train":
        dataset, binarize = binarized_once(dataset), "dynamic"
    name, words = "", ""
    if isinstance(likelihood, Network):
        asked = (likelihood.likelihood, binarize, settings.dequantize)
        name = likelihood_name(dataset.spec, *asked)
        words = chosen_words(likelihood.likelihood, name)
        named = dataclasses.replace(likelihood, likelihood=name)
        likelihood = named_likelihood(named, dataset)
    elif mixed(dataset.spec.columns):
        raise InputError(
            f"{dataset.spec.name} holds other columns than real numbers: choose a "
            "preset with a --likelihood, as vae or miwae"
        )
    if binarize == "auto":
        bits = isinstance(likelihood, li.Bernoulli) and kind_of(dataset.spec).scaled
        binarize = "dynamic" if bits else "none"
    pre = preprocess(dataset.spec, binarize, settings.dequantize)
    li.check_fit(likelihood, pre.values, fixed=not name)
    note = likelihood_note(dataset.spec, words or fixed_words(likelihood))
    return View(dataset, pre, likelihood, (note, *likelihood.notes(pre.values)), name)


def require_complete(view: View) -> None:
    """InputError where the data has holes."""
    if view.dataset.spec.masked:
        raise InputError(
            f"{view.dataset.spec.name} has holes, which this preset cannot train on: "
            "choose miwae, or another with an ELBO"
        )


def build_decoder(
    body: Bodies, view: View, condition: nn.Module | None = None
) -> Decoder:
    """p(x | z) for the shape of the data."""
    *places, channels = view.dataset.spec.shape
    outputs = view.likelihood.outputs(channels)
    return Decoder(body.decoder((*places, outputs)), view.likelihood, condition)


def vae_model(
    body: Bodies,
    latent: Latents,
    view: View,
    condition: Label | None = None,
    reader: nn.Module | None = None,
) -> VAE:
    """The VAE with the posterior and the prior of the settings."""
    read = reader_of(view, reader)
    encoder = build_encoder(body.encoder, latent, condition, read)
    return VAE(
        encoder=encoder,
        decoder=build_decoder(body, view, condition),
        prior=build_prior(latent, encoder, view.dataset.spec, view.preprocess),
    )


def reader_of(view: View, reader: nn.Module | None = None) -> nn.Module | None:
    """How an encoder reads the data: a table's categories and counts are unfolded."""
    columns = view.dataset.spec.columns
    return Reader(Table(columns), reader) if mixed(columns) else reader


def weight_schedule(
    weight: Weight, training: Training, dataset: Dataset
) -> optax.Schedule:
    """The weight over steps."""
    steps = round(weight.warm_up * epoch_steps(dataset, training))
    require(steps <= MOST, "warm_up", weight.warm_up, f"below {MOST:,} steps")
    # A warm-up within one step is none: beta would stay at the start of its rise.
    kind = weight.schedule if steps > 1 else "constant"
    return pick("schedule", kind, SCHEDULES)(weight.beta, steps)


def latent_metrics(
    latents: int, view: View, blocks: Mapping[str, Shape] = MappingProxyType({})
) -> Callable[[int], Mapping[str, Metric]]:
    """Metrics of a latent-variable model, and of each of its blocks if it has several.

    Args:
      latents: as many as `decode` takes.
      view: the data and the likelihood.
      blocks: the shape of each block, from the data upwards.
    """
    likelihood_of = partial(
        likelihood_metrics,
        log_bin=0.0 if view.likelihood.discrete else view.preprocess.log_bin,
    )
    hidden, columns = view.dataset.spec.hidden, view.dataset.spec.columns
    return lambda samples: {
        **likelihood_of(samples),
        **({"imputation": imputation(samples, columns)} if hidden and samples else {}),
        **representation_metrics(latents),
        **block_metrics(blocks),
    }


def negative_elbo(values: Mapping[str, float]) -> float:
    """The number by which held-out data selects a latent-variable model."""
    return -values["elbo"]


def one_player(
    model: nn.Module,
    objective: Objective,
    view: View,
    training: Training,
    metrics: Callable[[int], Mapping[str, Metric]],
    schedules: Mapping[str, optax.Schedule] = MappingProxyType({}),
    selection: Callable[[Mapping[str, float]], float] = negative_elbo,
) -> Experiment:
    """A game of one player, who owns all parts of the model."""
    quality = quality_metrics(model, view.dataset.spec, view.preprocess.values)
    steps = epoch_steps(view.dataset, training) * training.epochs
    optimizer = for_counts(adam(training, steps), view.dataset.spec)
    parts = tuple(f.name for f in dataclasses.fields(model) if f.name not in OF_LINEN)
    return Experiment(
        model=model,
        players={"vae": Player(objective, optimizer, parts, schedules)},
        dataset=view.dataset,
        preprocess=view.preprocess,
        metrics=lambda samples: {**metrics(samples), **(quality if samples else {})},
        selection=selection,
        training=training,
        notes=view.notes,
        likelihood=view.chosen,
    )


def chosen_by_bound(
    experiment: Experiment,
    samples: int,
    value: Callable[[Array], Array] = log_mean_exp,
) -> Experiment:
    """The experiment with the bound of `samples` draws among its metrics, by default
    that of IWAE: held-out data chooses by what is trained.
    """
    metrics, bound = experiment.metrics, importance_bound(samples, value)
    return dataclasses.replace(
        experiment,
        metrics=lambda count: {**metrics(count), "bound": bound},
        selection=lambda values: -values["bound"],
    )


def vae_game(
    body: Bodies,
    latent: Latents,
    view: View,
    training: Training,
    objective: Objective,
    condition: Label | None = None,
    **weights: Weight,
) -> Experiment:
    """A VAE trained by an objective, whose `weights` are scheduled by name."""
    return one_player(
        vae_model(body, latent, view, condition),
        objective,
        view,
        training,
        latent_metrics(latent.size, view),
        {
            name: weight_schedule(weight, training, view.dataset)
            for name, weight in weights.items()
        },
    )


def generic_vae(
    data: Data,
    network: Network,
    latent: Latents,
    training: Training,
    objective: Objective,
    **weights: Weight,
) -> Experiment:
    """A VAE with bodies and likelihood by name, on any data."""
    view = open_data(data, network)
    body = build_bodies(network, view.dataset)
    return vae_game(body, latent, view, training, objective, None, **weights)
