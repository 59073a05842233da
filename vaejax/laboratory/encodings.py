"""Encodings of examples, and what they tell of known factors and of labels."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from vaejax.distributions import reparameterized
from vaejax.inference.latents import draw_keys
from vaejax.laboratory.record import plain_number
from vaejax.metrics import clusters
from vaejax.metrics.disentanglement import information as info
from vaejax.metrics.disentanglement import interventions, predictors
from vaejax.metrics.disentanglement.base import Score
from vaejax.metrics.disentanglement.infomec import information_scores
from vaejax.types import Array, Batch, Key, Variables

ScoreName = Literal[
    "beta_vae",
    "factor_vae",
    "mig",
    "mig_chen",
    "sap",
    "dci",
    "modularity",
    "explicitness",
    "irs",
    "infomec",
]
CodesName = Literal["mean", "sample"]
Values = dict[str, Any]
Numbers = Mapping[str, np.ndarray]


def encode_examples(
    model: nn.Module, variables: Variables, batch: Batch, key: Key
) -> dict[str, Array]:
    """The posterior of each example, and what is known of it.

    Args:
      model: a latent model.
      variables: its variables.
      batch: examples, with `factors` or `y` where these are known.
      key: of a draw of each.

    Returns:
      Of what `decode` takes, `[batch, latents]`: `mean`, `scale`, the standard
      deviation, and `sample`, a draw; `gaussian`, whether these are independent
      Gaussians; `latent_kl`, KL(q || p) of each latent, nats, of a model whose block of
      latents has independent ones; and `factors` and `y` of the batch.
    """
    q: Any = model.apply(variables, batch, method="encode")
    i: Any = model.apply(
        variables, batch, draw_keys(key, jnp.arange(1)), method="infer"
    )
    found = {
        name: array.reshape(len(array), -1)
        for name, array in {
            "mean": q.mean,
            "scale": jnp.sqrt(q.variance),
            "sample": reparameterized(q, key),
        }.items()
    }
    gaussian = isinstance(q, dist.Normal)
    found["gaussian"] = jnp.full(len(q.mean), gaussian)
    if i.kl_parts.shape[1:] == found["mean"].shape:
        found["latent_kl"] = i.kl_parts[0]
    return found | {name: batch[name] for name in ("factors", "y") if name in batch}


def score_values(name: str, score: Score) -> Values:
    """A score and its standard error, as numbers of a record."""
    return {name: score.value, f"{name}_se": score.error}


def of_disentanglement(found: Numbers, settings: Mapping[str, Any]) -> Values:
    """Scores of codes by known factors, and the matrices that some of them are of."""
    codes, factors = found[settings["codes"]].astype(float), found["factors"]
    seed = settings["seed"]
    makes: dict[ScoreName, Callable[[], Values]] = {
        "beta_vae": lambda: score_values(
            "beta_vae", interventions.beta_vae_score(codes, factors, seed=seed)
        ),
        "factor_vae": lambda: score_values(
            "factor_vae", interventions.factor_vae_score(codes, factors, seed=seed)
        ),
        "mig": lambda: score_values("mig", info.mutual_information_gap(codes, factors)),
        "mig_chen": lambda: of_densities(found),
        "sap": lambda: {"sap": predictors.separated_attributes(codes, factors).score},
        "dci": lambda: of_importances(codes, factors, seed),
        "modularity": lambda: score_values(
            "modularity", info.modularity(codes, factors)
        ),
        "explicitness": lambda: {
            "explicitness": predictors.explicitness(codes, factors)
        },
        "irs": lambda: {"irs": interventions.interventional_robustness(codes, factors)},
        "infomec": lambda: of_infomec(codes, factors, seed),
    }
    values: Values = {}
    for name in settings["scores"]:
        values |= makes[name]()
    return {
        **{name: plain_number(value) for name, value in values.items()},
        "mutual_information": info.information_matrix(codes, factors).tolist(),
        "entropies": info.factor_entropies(factors).tolist(),
        **kl_of_latents(found),
    }


def kl_of_latents(found: Numbers) -> Values:
    """The mean KL of each latent, where the model has it."""
    if "latent_kl" not in found:
        return {}
    return {"latent_kl": found["latent_kl"].astype(float).mean(0).tolist()}


def of_densities(found: Numbers) -> Values:
    """MIG by densities, where q(z | x) has independent Gaussians."""
    if not found["gaussian"].all() or not (found["scale"] > 0).all():
        return {"mig_chen": np.nan}
    q = info.GaussianLatents(found["sample"], found["mean"], found["scale"])
    gap = info.mutual_information_gap_of_densities(q, found["factors"])
    return score_values("mig_chen", gap.score)


def of_importances(codes: np.ndarray, factors: np.ndarray, seed: int) -> Values:
    """The three scores of DCI."""
    dci = predictors.importance_scores(codes, factors, seed=seed)
    return {
        "dci_disentanglement": dci.disentanglement,
        "dci_completeness": dci.completeness,
        "dci_informativeness": dci.informativeness,
    }


def of_infomec(codes: np.ndarray, factors: np.ndarray, seed: int) -> Values:
    """The three scores of InfoMEC."""
    found = information_scores(codes, factors, seed=seed)
    return {
        "infomec_modularity": found.modularity,
        "infomec_explicitness": found.explicitness,
        "infomec_compactness": found.compactness,
    }


def of_representation(found: Numbers, settings: Mapping[str, Any]) -> Values:
    """Scores of codes by labels."""
    known = found["y"] >= 0
    codes, y = found[settings["codes"]].astype(float)[known], found["y"][known]
    agreement = clusters.cluster_agreement(codes, y, seed=settings["seed"])
    few = {"labels": settings.get("labels", 0), "seed": settings["seed"]}
    neighbours = clusters.neighbour_accuracy(codes, y, **few)
    return {
        **score_values("neighbour_accuracy", neighbours),
        **score_values("probe_accuracy", clusters.probe_accuracy(codes, y, **few)),
        "rand": agreement.rand,
        "information": agreement.information,
        "classes": len(np.unique(y)),
        **kl_of_latents(found),
    }


def doubts_of_disentanglement(values: Values) -> list[str]:
    """Whether there are examples enough, and densities."""
    if "mig_chen" in values and values["mig_chen"] is None:
        return [
            "mig_chen needs a posterior of independent Gaussians, which this model has "
            "not: leave it out by --scores"
        ]
    return []


def no_doubts(values: Values) -> Sequence[str]:
    """None: errors of accuracies are beside them."""
    return []
