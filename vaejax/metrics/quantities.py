"""Descriptions of an experiment's numbers: its metrics and its players' terms.

A metric describes its own numbers. Tables show a number without a description last.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase

from vaejax.experiment import Experiment, Quantity
from vaejax.metrics.features import DISTANCES, SQUARED
from vaejax.objectives.terms import TERMS

SPREAD = Quantity("its standard deviation over subsets of the examples")
GENERATED = Quantity("samples that are compared", "examples")
COMPARED = Quantity("test examples that they are compared with", "examples")

OF_SAMPLES = {
    "label_accuracy": Quantity("share of samples seen as the label asked for"),
    "least_class_share": Quantity("share of the class that samples are seen as least"),
    "fid": Quantity("Fréchet distance in Inception's features", SQUARED),
    "kid": Quantity("kernel distance (squared MMD) in Inception's features"),
    "kid_spread": SPREAD,
    "kd_*_spread": SPREAD,
    "rfid": Quantity("Fréchet distance of reconstructions, in Inception's", SQUARED),
    "rkid": Quantity("kernel distance of reconstructions, in Inception's features"),
    "rfd_*": Quantity("Fréchet distance of reconstructions to their images", SQUARED),
    "rkd_*": Quantity("kernel distance of reconstructions to their images"),
    **{f"{name}_*": quantity for name, quantity in DISTANCES.items()},
    "lpips": Quantity("LPIPS of reconstructions, by VGG16"),
    "generated": GENERATED,
    "compared_with": COMPARED,
    "generated_*": GENERATED,
    "compared_with_*": COMPARED,
    "*_digest": Quantity("digest of what the features are made by"),
}
"""Numbers of samples (`metrics.features`), which end in the name of the features."""

Quantities = Mapping[str, Quantity]


def quantities_of(experiment: Experiment) -> Quantities:
    """All numbers of a run by name, in the order of tables."""
    found = dict(TERMS)
    for metric in experiment.metrics(MANY).values():
        found |= metric.quantities
    return found | OF_SAMPLES


MANY = 1000
"""Importance samples with which an evaluation leaves out no number."""


def entry_of(quantities: Quantities, name: str) -> str:
    """The name, or the pattern for it, among the quantities; empty if there is none."""
    if name in quantities:
        return name
    return next((key for key in quantities if fnmatchcase(name, key)), "")


def meaning_of(quantities: Quantities, name: str) -> str:
    """The meaning of a number in one line; empty if nobody describes it."""
    found = entry_of(quantities, name)
    return quantities[found].text if found else ""


def rank(quantities: Quantities, name: str) -> tuple[int, str]:
    """The place of a number: in the order of the quantities, then by name."""
    order = list(quantities)
    found = entry_of(quantities, name)
    return (order.index(found) if found else len(order), name)


def unit_of(quantities: Quantities, name: str) -> str:
    """The unit of a number or of a player's term (`vae/kl`); nats if nobody says."""
    found = entry_of(quantities, name.rpartition("/")[2])
    return quantities[found].unit if found else "nats"


def telling_terms(
    metrics: Mapping[str, float | int], quantities: Quantities
) -> list[str]:
    """Names and values of the metrics for a line, the most telling first."""

    def term(name: str) -> str:
        return name.rpartition("/")[2]

    order = [name for name, quantity in quantities.items() if quantity.in_line]
    names = [n for n in metrics if term(n) in order]
    names.sort(key=lambda n: order.index(term(n)))
    return [f"{n} {metrics[n]:.4g}" for n in names]
