"""Means, standard errors and doubts from the numbers of single examples."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vaejax.inference.imputation import LEAST_ESS
from vaejax.laboratory import encodings
from vaejax.laboratory.measure import Numbers
from vaejax.laboratory.over_k import counts_up_to
from vaejax.laboratory.rate_distortion import curve_points, curve_schedule
from vaejax.laboratory.record import plain_number
from vaejax.laboratory.signal import doubts_of_gradients, of_gradients
from vaejax.metrics.weights import FEW, HIGH_KHAT

Values = dict[str, Any]
"""Numbers and lists of them by name; those that do not exist are None."""
ENOUGH_CHAINS = 0.25
"""Share of chains that must be effective."""
WIDE_GAP = 0.5
"""Distance of both sides of simulated data, nats, above which AIS is doubted."""
POOR = 0.4
"""Acceptance below which chains hardly move."""
SATURATED = 0.5
"""Nats below log N from which the information of N examples says nothing."""


def with_error(name: str, values: np.ndarray) -> Values:
    """The mean over examples and its standard error, of each column if any."""
    values = np.asarray(values, np.float64)
    mean = values.mean(0)
    if len(values) < 2:
        error = np.full(mean.shape, np.nan)
    else:
        error = values.std(0, ddof=1) / math.sqrt(len(values))
    return {name: plain_number(mean), f"{name}_se": plain_number(error)}


def error_of_draws(errors: np.ndarray) -> Any:
    """Standard error of a mean over examples that the draws alone bring."""
    return plain_number(np.sqrt(np.square(errors.astype(float)).mean(0) / len(errors)))


def share_of_examples(values: np.ndarray) -> Any:
    """Share of examples."""
    return plain_number(np.mean(values, 0))


def of_nll_over_k(found: Numbers, settings: Mapping[str, Any]) -> Values:
    """-log p(x) at each K, and what it lacks."""
    log_p = found["log_p"].astype(float)
    gained = log_p[:, -1:] - log_p
    return {
        "k": list(counts_up_to(settings["samples"])),
        **with_error("nll", -log_p),
        "draws_se": error_of_draws(found["error"]),
        "bias": plain_number(found["bias"].mean(0)),
        **with_error("above_largest", gained),
        "ess": plain_number(found["ess"].mean(0)),
        "low_ess": share_of_examples(found["ess"] < LEAST_ESS),
        "high_khat": plain_number(
            np.where(np.isnan(found["khat"]), np.nan, found["khat"] > HIGH_KHAT).mean(0)
        ),
    }


def of_ais(found: Numbers, settings: Mapping[str, Any]) -> Values:
    """-log p(x) by annealing, and how far to trust it."""
    chains = settings["chains"]
    return {
        **with_error("nll", -found["log_p"]),
        "draws_se": error_of_draws(found["error"]),
        "bias": plain_number(found["bias"].mean()),
        "ess": plain_number(found["ess"].mean()),
        "low_ess": share_of_examples(found["ess"] < ENOUGH_CHAINS * chains),
        "acceptance": plain_number(found["acceptance"].mean()),
        "least_acceptance": plain_number(found["least_acceptance"].min()),
    }


def of_simulated(found: Numbers) -> Values:
    """Both sides of log p(x) on data of the model."""
    lower, upper = found["lower"].astype(float), found["upper"].astype(float)
    return {
        "simulated_examples": len(lower),
        **with_error("simulated_lower", lower),
        **with_error("simulated_upper", upper),
        **with_error("simulated_gap", upper - lower),
    }


PROPOSALS = {
    "encoder": "",
    "diagonal": "_diagonal",
    "full": "_full",
}
"""Endings of the numbers of each proposal."""


def of_gaps(found: Numbers, ais: Numbers | None) -> Values:
    """The gaps, against the estimate of log p(x) with the largest mean.

    Each estimate is below log p(x) in expectation, so that the largest is the closest.
    One is chosen for all examples: a maximum over estimates of each would be above.
    """
    there = {n: end for n, end in PROPOSALS.items() if f"elbo{end}" in found}
    estimates = {name: found[f"log_p{end}"] for name, end in there.items()}
    if ais is not None and len(ais["log_p"]) == len(found["elbo"]):
        estimates["ais"] = ais["log_p"]
    best = max(estimates, key=lambda name: float(np.mean(estimates[name])))
    log_p, elbo = estimates[best].astype(float), found["elbo"].astype(float)
    values: Values = {
        **with_error("log_p", log_p),
        "log_p_by": best,
        **with_error("elbo", elbo),
        **with_error("gap", log_p - elbo),
        "encoder_is_diagonal": bool(found["diagonal"].all()),
    }
    for name, array in estimates.items():
        values[f"log_p_{name}"] = plain_number(array.mean())
    for name, end in there.items():
        ess = found[f"ess{end}"]
        values[f"ess_{name}"] = plain_number(ess.mean())
        values[f"low_ess_{name}"] = share_of_examples(ess < LEAST_ESS)
        values[f"high_khat_{name}"] = share_of_examples(found[f"khat{end}"] > HIGH_KHAT)
        if end:
            local = found[f"elbo{end}"].astype(float)
            values |= with_error(f"elbo{end}", local)
            values |= with_error(f"approximation_gap{end}", log_p - local)
            values |= with_error(f"amortization_gap{end}", local - elbo)
            values[f"steps{end}"] = int(found[f"steps{end}"].max())
            values[f"plateau{end}"] = bool(found[f"plateau{end}"].all())
    return values


def of_rate_distortion(found: Numbers, settings: Mapping[str, Any]) -> Values:
    """The curve, and the point of the encoder."""
    betas = curve_schedule(settings["temperatures"], settings["largest_beta"])
    at = curve_points(betas)
    return {
        "beta": plain_number(betas[1:][at]),
        **with_error("rate", found["rate"]),
        **with_error("distortion", found["distortion"]),
        **with_error("encoder_rate", found["encoder_rate"]),
        **with_error("encoder_distortion", found["encoder_distortion"]),
        "acceptance": plain_number(found["acceptance"].mean()),
    }


def of_posterior(found: Numbers) -> Values:
    """KL(q(z | x) || p) split into information and marginal KL, from both sides."""
    kl = found["kl"].astype(float)
    low = found["information"].astype(float)
    high = found["information_without"].astype(float)
    return {
        "examples": len(kl),
        "log_examples": math.log(len(kl)),
        **with_error("kl", kl),
        **with_error("information", low),
        **with_error("information_without", high),
        **with_error("marginal_kl", kl - low),
        **with_error("marginal_kl_without", kl - high),
        **{
            name: value
            for part in ("total_correlation", "dimension_kl")
            if part in found
            for name, value in with_error(part, found[part]).items()
        },
    }


def means_and_doubts(
    what: str, found: Mapping[str, Numbers], settings: Mapping[str, Any]
) -> Values:
    """The means of a measurement with their standard errors, and its doubts.

    Args:
      what: the measurement.
      found: what `measure` gave.
      settings: what `measurement_settings` gives.

    Returns:
      Values by name; `NAME_se` are standard errors over examples, `doubts` sentences.
    """
    makes: dict[str, Callable[[], Values]] = {
        "nll_over_k": lambda: of_nll_over_k(found[what], settings),
        "ais": lambda: (
            of_ais(found[what], settings) | of_simulated(found["ais_simulated"])
        ),
        "gaps": lambda: of_gaps(found[what], found.get("ais")),
        "rate_distortion": lambda: of_rate_distortion(found[what], settings),
        "posterior": lambda: of_posterior(found[what]),
        "gradients": lambda: of_gradients(found[what], settings),
        "disentanglement": lambda: encodings.of_disentanglement(found[what], settings),
        "representation": lambda: encodings.of_representation(found[what], settings),
    }
    values = makes[what]()
    return values | {"doubts": list(DOUBTS[what](values))}


def doubts_of_weights(name: str, low: Any, high: Any, advice: str) -> list[str]:
    """A sentence where too many examples have bad weights."""
    if max(low or 0, high or 0) <= FEW:
        return []
    tails = "" if high is None else f", {high:.0%} a Pareto k-hat above {HIGH_KHAT}"
    return [
        f"{name} is not to be trusted: {low:.0%} of the examples have fewer than "
        f"{LEAST_ESS:.0f} effective samples{tails}: {advice}"
    ]


def doubts_of_nll(values: Values) -> list[str]:
    """Whether the largest K is enough."""
    return doubts_of_weights(
        f"nll at K = {values['k'][-1]}",
        values["low_ess"][-1],
        values["high_khat"][-1],
        "give more --samples, or ask for ais",
    )


def doubts_of_ais(values: Values) -> list[str]:
    """Whether the chains arrive."""
    doubts, more = [], "give more --temperatures"
    if (low := values["low_ess"]) > FEW:
        doubts.append(
            f"ais is not to be trusted: for {low:.0%} of the examples fewer than "
            f"{ENOUGH_CHAINS:.0%} of the chains are effective: {more}"
        )
    gap, error = values["simulated_gap"], values["simulated_gap_se"] or 0.0
    if gap - 2 * error > WIDE_GAP:
        doubts.append(
            f"on data of the model itself both sides of log p(x) are {gap:.2f} nats "
            f"apart, and ais may be as far below it: {more}"
        )
    return doubts + doubts_of_moves(values)


def doubts_of_moves(values: Values) -> list[str]:
    """Whether proposals are accepted."""
    if values["acceptance"] >= POOR:
        return []
    return [
        f"chains accept {values['acceptance']:.0%} of their proposals, and hardly "
        "move: give more --temperatures, over which step sizes adapt"
    ]


def doubts_of_gaps(values: Values) -> list[str]:
    """Whether log p(x) is known and the fits ended."""
    doubts = []
    if (best := values["log_p_by"]) != "ais":
        low, high = values[f"low_ess_{best}"], values[f"high_khat_{best}"]
        advice = "give more --samples, or ask for ais as well"
        doubts += doubts_of_weights("log p(x) of the gaps", low, high, advice)
    for family in ("diagonal", "full"):
        if not values.get(f"plateau_{family}", True):
            doubts.append(
                f"the fits of the {family} Gaussians ended while their bound still "
                "rose: give more --fit-steps"
            )
    if not values["encoder_is_diagonal"]:
        doubts.append(
            "the encoder's posterior is no diagonal Gaussian over all latents: its own "
            "family may be wider than those fitted here, and amortization gaps negative"
        )
    return doubts


def doubts_of_posterior(values: Values) -> list[str]:
    """Whether there are examples enough."""
    count, most = values["examples"], values["log_examples"]
    if values["information"] < most - SATURATED:
        return []
    return [
        f"z tells nearly all {count:,} examples apart: their information cannot exceed "
        f"log N = {most:.2f} nats, so that it is a lower bound and the marginal KL an "
        "upper one: give more --num where there are more examples"
    ]


DOUBTS: Mapping[str, Callable[[Values], Sequence[str]]] = {
    "nll_over_k": doubts_of_nll,
    "ais": doubts_of_ais,
    "gaps": doubts_of_gaps,
    "rate_distortion": doubts_of_moves,
    "posterior": doubts_of_posterior,
    "gradients": doubts_of_gradients,
    "disentanglement": encodings.doubts_of_disentanglement,
    "representation": encodings.no_doubts,
}
