"""Meanings and units of the numbers of an evaluation."""

from collections.abc import Mapping

MEANINGS: Mapping[str, str] = {
    "examples": "examples of the split",
    "elbo": "evidence lower bound, one draw of z an example, nats",
    "bound": "importance-weighted bound as it is trained, nats",
    "distortion": "-log p(x | z), nats",
    "kl": "KL(q(z | x) || p(z)), nats",
    "nll": "-log p(x) by importance sampling, nats",
    "bits_per_dim": "the same in bits for each scored number",
    "nll_ess": "mean effective sample size of its weights",
    "nll_low_ess": "share of examples where that is below 10",
    "nll_high_khat": "share where Pareto k-hat of the weights exceeds 0.7",
    "nll_bias": "its excess for lack of samples, to first order, nats",
    "mse": "squared error of E[x | z], model's units",
    "nll_monte_carlo": "-log p(x | context) by draws of p(z | context), nats",
    "baseline_nll": "-log p(x | context) of the baseline, nats",
    "real_score": "the critic's score of data",
    "fake_score": "the critic's score of fakes",
    "gap": "their difference",
    "cross_entropy": "-log p(y | x), nats",
    "accuracy": "share of right labels, or of right hidden categories",
    "active_units": "latents that carry information",
    "rmse": "root mean squared error of hidden numbers, model's units",
    "coverage": "share of hidden numbers within their 95 % interval",
    "width": "mean width of these intervals, model's units",
    "crps": "continuous ranked probability score, model's units",
    "ess": "mean effective sample size of importance weights",
    "collapsed": "share of examples where it is below 10",
    "label_accuracy": "share of samples seen as the label they were asked for",
    "least_class_share": "share of the class that samples are seen as most rarely",
    "generated": "samples that the classifier saw",
    "compared_with": "test examples that it saw",
    "classifier_digest": "of the classifier's weights",
}
PREFIXES: Mapping[str, str] = {
    "fd_": "Fréchet distance to test data in the classifier's features",
    "kd_": "kernel distance to test data in the classifier's features",
}
SUFFIXES: Mapping[str, str] = {
    "_bias": "its excess for lack of samples, to first order, nats",
    "_ess": "mean effective sample size of its weights",
    "_spread": "its standard deviation over subsets of the examples",
}


def rank(name: str) -> tuple[int, str]:
    """The place of a number in a table: in the order of `MEANINGS`, then by name."""
    order = list(MEANINGS)
    return (order.index(name) if name in MEANINGS else len(order), name)


def meaning(name: str) -> str:
    """The meaning of a number in one line; empty if unknown."""
    known = MEANINGS.get(name)
    by_end = (text for end, text in SUFFIXES.items() if name.endswith(end))
    by_start = (text for start, text in PREFIXES.items() if name.startswith(start))
    return known or next(by_end, "") or next(by_start, "")
