"""Tables of the laboratory on the terminal."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from vaejax.laboratory.summary import Values

Row = tuple[str, ...]
"""Cells of a line."""


def print_measurement(name: str, entry: Mapping[str, Any], title: str) -> None:
    """A table of one measurement, and its doubts on stderr."""
    from rich.table import Table

    from vaejax.runtime.terminal import console

    values = entry["values"]
    heads, rows = TABLES[name](values)
    codes = entry["settings"].get("codes")
    of_codes = f" of the {codes} of q(z | x)" if codes else ""
    about = f"{title}, {entry['examples']:,} examples: {name}{of_codes}"
    table = Table(*heads, title=about)
    for row in rows:
        table.add_row(*row)
    console().print(table)
    for doubt in values["doubts"]:
        print(f"warning: {doubt}", file=sys.stderr)


def number_text(value: Any, digits: str = ".2f") -> str:
    """A number in a cell; a blank where there is none."""
    return "" if value is None else f"{value:{digits}}"


def in_percent(value: Any) -> str:
    """A share in a cell."""
    return number_text(value, ".0%")


def table_of_bounds(values: Values) -> tuple[Row, list[Row]]:
    """A line for each K."""
    heads = (
        "K",
        "nll",
        "± s.e.",
        "± draws",
        "bias",
        "above the last",
        "ESS",
        "ESS < 10",
        "k-hat > 0.7",
    )
    columns = (
        [f"{k:,}" for k in values["k"]],
        [number_text(v) for v in values["nll"]],
        [number_text(v) for v in values["nll_se"]],
        values_of(values["draws_se"], ".3f"),
        values_of(values["bias"], ".3f"),
        values_of(values["above_largest"], ".3f"),
        values_of(values["ess"], ".1f"),
        [in_percent(v) for v in values["low_ess"]],
        [in_percent(v) for v in values["high_khat"]],
    )
    return heads, [tuple(row) for row in zip(*columns, strict=True)]


def values_of(column: list[Any], digits: str) -> list[str]:
    """Numbers as cells."""
    return [number_text(value, digits) for value in column]


def rows_of_values(
    values: Values,
    meanings: Mapping[str, str],
    digits: str = ".3f",
    errors: str = ".2f",
) -> list[Row]:
    """A line for each value that is there: name, number, error and meaning."""
    return [
        (
            name,
            number_text(values[name], digits),
            number_text(values.get(f"{name}_se"), errors),
            text,
        )
        for name, text in meanings.items()
        if values.get(name) is not None
    ]


HEADS = ("number", "value", "± s.e.", "meaning")

OF_AIS = {
    "nll": "-log p(x) by annealed importance sampling, nats",
    "draws_se": "its standard error from the chains alone, nats",
    "bias": "its excess for lack of chains, by the jackknife, nats",
    "ess": "effective chains of each example",
    "low_ess": "share of examples where they are under a quarter",
    "acceptance": "mean acceptance of proposals",
    "least_acceptance": "least of an example at any temperature",
    "simulated_lower": "log p(x) of simulated data from below, nats",
    "simulated_upper": "and from above, by chains that start at the true z, nats",
    "simulated_gap": "their distance, nats",
}
OF_GAPS = {
    "log_p": "best estimate of log p(x), nats",
    "elbo": "ELBO of the encoder, nats",
    "gap": "log p(x) - ELBO, nats",
    "elbo_diagonal": "ELBO of the best diagonal Gaussian of each example",
    "approximation_gap_diagonal": "log p(x) minus that",
    "amortization_gap_diagonal": "that minus the ELBO of the encoder",
    "elbo_full": "ELBO of the best Gaussian with any covariance",
    "approximation_gap_full": "log p(x) minus that",
    "amortization_gap_full": "that minus the ELBO of the encoder",
    "log_p_encoder": "log p(x) by draws of the encoder's posterior",
    "ess_encoder": "their effective sample size",
    "log_p_diagonal": "log p(x) by draws of the diagonal Gaussians",
    "ess_diagonal": "their effective sample size",
    "log_p_full": "log p(x) by draws of the Gaussians with any covariance",
    "ess_full": "their effective sample size",
    "log_p_ais": "log p(x) by annealed importance sampling",
}
OF_POSTERIOR = {
    "kl": "E KL(q(z | x) || p(z)), nats",
    "information": "of z about which example it is, at most log N, nats",
    "information_without": "the same with the example left out of q(z)",
    "marginal_kl": "KL(q(z) || p(z)), from above",
    "marginal_kl_without": "the same, from below; under 0 it says nothing",
    "total_correlation": "KL(q(z) || product of q(z_j)), the dependence of latents",
    "dimension_kl": "KL of the marginals q(z_j) to the prior: the three add up to kl",
    "log_examples": "log N",
}
OF_DISENTANGLEMENT = {
    "beta_vae": "BetaVAE score: accuracy on the factor that pairs share",
    "factor_vae": "FactorVAE score: accuracy on the factor that is held",
    "mig": "mutual information gap, by a histogram of 20 bins",
    "mig_chen": "mutual information gap, by the densities of q(z | x)",
    "sap": "separated attribute predictability",
    "dci_disentanglement": "DCI: each latent is important for one factor",
    "dci_completeness": "DCI: each factor by one latent",
    "dci_informativeness": "DCI: accuracy of boosted trees on factors",
    "modularity": "each latent informs of one factor",
    "explicitness": "area under the ROC curve of a logistic regression",
    "irs": "interventional robustness score",
    "infomec_modularity": "InfoM: each latent informs of one factor",
    "infomec_explicitness": "InfoE: information by a logistic regression",
    "infomec_compactness": "InfoC: each factor is in one latent",
}
OF_REPRESENTATION = {
    "neighbour_accuracy": "accuracy of 5 nearest neighbours among the codes",
    "probe_accuracy": "accuracy of a logistic regression on the codes",
    "rand": "adjusted Rand index of k-means clusters and labels",
    "information": "normalized mutual information of clusters and labels",
    "classes": "labels, and clusters",
}


def table_of_ais(values: Values) -> tuple[Row, list[Row]]:
    """Numbers of annealed importance sampling."""
    return HEADS, rows_of_values(values, OF_AIS)


def table_of_gaps(values: Values) -> tuple[Row, list[Row]]:
    """Numbers of the gaps."""
    rows = rows_of_values(values, OF_GAPS)
    first = (*rows[0][:3], f"{OF_GAPS['log_p']}, by {values['log_p_by']}")
    return HEADS, [first, *rows[1:]]


def table_of_posterior(values: Values) -> tuple[Row, list[Row]]:
    """Numbers of the aggregated posterior."""
    return HEADS, rows_of_values(values, OF_POSTERIOR)


def table_of_disentanglement(values: Values) -> tuple[Row, list[Row]]:
    """Scores by known factors."""
    return HEADS, rows_of_values(values, OF_DISENTANGLEMENT, errors=".3f")


def table_of_representation(values: Values) -> tuple[Row, list[Row]]:
    """The table of scores of codes by labels."""
    return HEADS, rows_of_values(values, OF_REPRESENTATION, errors=".3f")


def table_of_curve(values: Values) -> tuple[Row, list[Row]]:
    """Some points of the curve, and that of the encoder."""
    heads = ("beta", "rate", "± s.e.", "distortion", "± s.e.")
    names = ("rate", "rate_se", "distortion", "distortion_se")
    count = len(values["beta"])
    at_one = min(range(count), key=lambda i: abs(values["beta"][i] - 1))
    places = sorted({*range(0, count, 5), at_one, count - 1})
    rows = [
        (
            number_text(values["beta"][i], ".4g"),
            *(number_text(values[name][i]) for name in names),
        )
        for i in places
    ]
    encoder = (number_text(values[f"encoder_{name}"]) for name in names)
    return heads, [*rows, ("encoder", *encoder)]


def table_of_gradients(values: Values) -> tuple[Row, list[Row]]:
    """A line for each part and estimator: its ratios over K, by both means."""
    ks = [f"K = {k:,}" for k in values["k"]]
    heads = ("part", "gradient", "signal to noise", *ks)
    kinds = {"snr": "mean of each parameter's", "whole": "of the whole gradient"}
    rows = [
        (part, gradient, text, *values_of(ratios[kind], ".3f"))
        for kind, text in kinds.items()
        for part, each in values["parts"].items()
        for gradient, ratios in each.items()
    ]
    return heads, rows


TABLES: Mapping[str, Callable[[Values], tuple[Row, list[Row]]]] = {
    "nll_over_k": table_of_bounds,
    "ais": table_of_ais,
    "gaps": table_of_gaps,
    "rate_distortion": table_of_curve,
    "posterior": table_of_posterior,
    "gradients": table_of_gradients,
    "disentanglement": table_of_disentanglement,
    "representation": table_of_representation,
}
