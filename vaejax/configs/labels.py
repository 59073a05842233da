"""Labels of the training split: how many are kept, and how often they are seen."""

import dataclasses

from vaejax.configs.checks import at_least
from vaejax.errors import require


@dataclasses.dataclass(frozen=True)
class Labels:
    """The labels that training may see."""

    labels: int = 100
    """Labels of the training split to keep, equally many of each class; 0: all."""
    labels_seed: int = 0
    """Seed of the choice of these labels."""
    labels_by_seed: bool = False
    """Choose them by --seed instead: each seed of training has labels of its own."""
    labelled_share: float = 0.0
    """Share of labelled rows in each batch, at least one; 0: that of the data."""

    def __post_init__(self) -> None:
        at_least(0, self, "labels", "labels_seed")
        share = self.labelled_share
        require(0 <= share < 1, "labelled_share", share, "in [0, 1)")
