"""Fitting a sampler to a trained model."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from vaejax.configs import Training
from vaejax.data.dataset import Dataset, describe
from vaejax.data.entries import checked_key
from vaejax.data.preprocess import preprocess
from vaejax.data.splits import standardize
from vaejax.errors import InputError
from vaejax.experiment import Experiment, Player, TrainState, variables_of
from vaejax.metrics import count
from vaejax.objectives import elbo
from vaejax.runtime.limits import check_count
from vaejax.samplers.encodings import Encodings, encodings_of
from vaejax.samplers.mixture import fit_gmm
from vaejax.samplers.record import Fitted, Sampler, check_sampler_name, state_digest
from vaejax.samplers.second_stage import (
    FlowDensity,
    arrays_of,
    flow_model,
    two_stage_model,
)
from vaejax.training.loop import train
from vaejax.types import Array, Batch, Key, Metrics, Objective

STEPS = 4000
BATCH = 256
RATE = 1e-3


def fit_sampler(
    experiment: Experiment,
    state: TrainState,
    kind: Fitted = "gmm",
    key: Key | None = None,
    *,
    components: int = 0,
) -> Sampler:
    """Fits a density to the encodings of the training split, to draw samples from.

    The decoder was trained on the aggregated posterior 1/N sum_n q(z | x_n). Where this
    is far from p(z), and of a deterministic autoencoder always, draws of a density
    fitted to it are decoded into better examples than draws of the prior. The model's
    likelihood stays that of its prior.

    Args:
      experiment: what was trained.
      state: its parameters, as `train` and `load` return them.
      kind: `gmm`, a mixture of Gaussians with full covariances [Ghosh et al. 2020, sec.
        4]; `flow`, a RealNVP [Dinh et al. 2017]; `two_stage`, a second VAE [Dai & Wipf
        2019].
      key: of the encodings' noise, and of the fit; None is `jax.random.key(0)`.
      components: Gaussians of gmm; 0: ten, or of a conditional model one for each
        label.

    Returns:
      What `sample` takes as `sampler`. Of a model conditioned on labels, it has a
      density for each label.

    Raises:
      InputError: there is no such kind, the model has no encoder or is conditioned on
        more than labels, or a label has too few encodings.
    """
    check_sampler_name(kind)
    check_count("components", components, 0)
    if components and kind != "gmm":
        raise InputError(f"components are of gmm, and the sampler is {kind}")
    key = jax.random.key(0) if key is None else checked_key(key)
    encoding_key, fit_key = jax.random.split(key)
    found = encodings_of(experiment, state, encoding_key)
    seed = int(jax.random.randint(fit_key, (), 0, 2**31 - 1))
    fits: Mapping[str, Callable[[], dict[str, np.ndarray]]] = {
        "gmm": lambda: fit_gmm(found, seed, components),
        "flow": lambda: fit_second(found, seed, flow_model, negative_log_density),
        "two_stage": lambda: fit_second(found, seed, two_stage_model, elbo),
    }
    arrays = fits[kind]()
    return Sampler(kind, found.shape, found.classes, arrays, state_digest(state))


def negative_log_density(
    model: FlowDensity, batch: Batch, key: Key
) -> tuple[Array, Metrics]:
    """-log p of latents under the flow, nats for each."""
    del key
    loss = -jnp.mean(model.prior(batch).log_prob(batch["x"]))
    return loss, {"loss": loss}


def fit_second(
    encodings: Encodings,
    seed: int,
    build: Callable[[int, int], Any],
    objective: Objective,
) -> dict[str, np.ndarray]:
    """Trains a second model of the encodings, by the loop that trains all others."""
    dataset = latents_data(encodings)
    model = build(encodings.z.shape[1], encodings.classes)
    state = train(second_experiment(model, objective, dataset, seed), quiet=True)
    spec = dataset.spec
    return arrays_of(variables_of(state), np.array(spec.mean), np.array(spec.scale))


def latents_data(encodings: Encodings) -> Dataset:
    """The encodings as a table, standardized; nothing of it is held out."""
    arrays = {"x": encodings.z}
    if encodings.y is not None:
        arrays["y"] = encodings.y
    splits = {"train": arrays, "test": {n: a[:1] for n, a in arrays.items()}}
    return standardize(describe("encodings", splits, encodings.classes))


def second_experiment(
    model: nn.Module, objective: Objective, dataset: Dataset, seed: int
) -> Experiment:
    """An experiment of about `STEPS` steps of Adam, whose rate falls to zero."""
    size = dataset.spec.sizes["train"]
    batch = min(BATCH, size)
    epochs = max(1, STEPS // (size // batch))
    rate = optax.cosine_decay_schedule(RATE, epochs * (size // batch))
    parts = ("flow", "base", "encoder", "decoder", "prior")
    player = Player(objective, optax.adam(rate), parts)
    training = Training(
        epochs=epochs, batch_size=batch, seed=seed, evaluate_every=epochs
    )
    return Experiment(
        model=model,
        players={"sampler": player},
        dataset=dataset,
        preprocess=preprocess(dataset.spec),
        metrics=lambda samples: {"count": count()},
        selection=lambda values: 0.0,
        training=training,
    )
