"""The likelihood that settings and data choose."""

from collections.abc import Callable, Mapping

from vaejax.configs import Network
from vaejax.data import Dataset, Spec
from vaejax.data.kinds import kind_of
from vaejax.distributions.columns import Table, mixed
from vaejax.errors import InputError
from vaejax.models import likelihoods as li
from vaejax.models.columns import TableLikelihood
from vaejax.models.counts import NegativeBinomialCounts, OfLibrary, PoissonCounts
from vaejax.presets.choice import pick

COUNTS: Mapping[str, Callable[[], li.Likelihood]] = {
    "poisson": PoissonCounts,
    "negative_binomial": NegativeBinomialCounts,
}


def likelihood_name(spec: Spec, asked: str, binarize: str, dequantize: bool) -> str:
    """The likelihood that is asked for; `auto` is resolved by the data.

    A Gaussian with one learned sigma for tables; Bernoulli for pictures that are bits,
    nearly so (`vaejax.data.bits`), or binarized by the settings. For others a mixture
    of discretized logistics, or where that has no density of an entry (dequantized
    levels, colour with holes) a Gaussian with the optimal sigma.
    """
    if asked != "auto":
        return asked
    if not kind_of(spec).scaled:
        return "gaussian"
    if spec.nearly_binary or binarize in ("dynamic", "static"):
        return "bernoulli"
    holes = spec.masked and spec.shape[-1] > 1
    return "gaussian_optimal" if dequantize or holes else "logistic_mixture"


def likelihood_note(spec: Spec, words: str) -> str:
    """The line about the shape of an example and the likelihood of it."""
    kind = kind_of(spec)
    shape = " x ".join(map(str, spec.shape))
    if kind.named:
        return f"table of {shape} {'column' if shape == '1' else 'columns'}: {words}"
    noun = "pictures" if kind.scaled else f"{spec.kind}s"
    return f"{noun} {shape} ({', '.join(kind.axes)}): {words}"


def chosen_words(asked: str, name: str) -> str:
    """The likelihood that the settings name, or that `auto` chose."""
    return f"--likelihood {name}" + (" (auto)" if asked == "auto" else "")


def fixed_words(likelihood: li.Likelihood) -> str:
    """The likelihood of a preset that has no setting for it."""
    return likelihood.words or (
        f"likelihood {type(likelihood).__name__}, fixed by the preset"
    )


def named_likelihood(network: Network, dataset: Dataset) -> li.Likelihood:
    """The likelihood that the settings name, which is not `auto`."""
    known = {
        **li.LIKELIHOODS,
        "gaussian_fixed": lambda: li.GaussianFixed(network.sigma),
    }
    found = pick("likelihood", network.likelihood, known)()
    columns = dataset.spec.columns
    counts = count_likelihood(network, dataset.spec)
    if not mixed(columns):
        return found
    li.check_fit(found, "real")
    return TableLikelihood(Table(columns), found, counts)


def count_likelihood(network: Network, spec: Spec) -> li.Likelihood:
    """The likelihood of counts that the settings name; InputError where rows without
    counts have no library to share.
    """
    counts = pick("count likelihood", network.count_likelihood, COUNTS)()
    asked = (network.count_likelihood, network.library_size)
    if asked != ("poisson", "none") and not spec.library:
        raise InputError(
            f"--count-likelihood and --library-size are of --counts, which {spec.name} "
            "has none of"
        )
    if network.library_size == "none":
        return counts
    if spec.empty_rows:
        raise InputError(
            f"--library-size observed: {spec.empty_rows} rows of {spec.name} hold no "
            "counts above 0, so that nothing is to share: leave them out"
        )
    return OfLibrary(spec.library, counts)
