"""The breast cancer table of Wisconsin, as scikit-learn ships it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from sklearn.datasets import load_breast_cancer

from vaejax.data.builders import VERSIONS
from vaejax.data.builders._stratified import stratified

_DESCRIPTION = """
Breast Cancer Wisconsin (Diagnostic), 569 rows that scikit-learn ships: 30 measurements
of cell nuclei in a digitized fine needle aspirate, and whether the mass is malignant.
A fifth of each class is for testing, chosen once: 456 and 113 rows. The imputation
papers that use this table split it at random instead.
"""
_CITATION = """
@misc{wolberg1993breast,
  title={Breast Cancer Wisconsin (Diagnostic)},
  author={Wolberg, William and Mangasarian, Olvi and Street, Nick and Street, W.},
  howpublished={UCI Machine Learning Repository}, year={1993},
  doi={10.24432/C5DW2B}
}
"""


class BreastCancer(tfds.core.GeneratorBasedBuilder):
    """Builder of `breast_cancer`."""

    name = "breast_cancer"
    VERSION = tfds.core.Version(VERSIONS["breast_cancer"])
    RELEASE_NOTES = {"1.0.0": "scikit-learn's table, four fifths and one fifth."}

    def _info(self) -> tfds.core.DatasetInfo:
        columns = tfds.features.Tensor(shape=(30,), dtype=np.float64)
        label = tfds.features.ClassLabel(names=["malignant", "benign"])
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict({"features": columns, "label": label}),
            supervised_keys=("features", "label"),
            homepage="https://archive.ics.uci.edu/dataset/17",
            citation=_CITATION,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        x, y = map(np.asarray, load_breast_cancer(return_X_y=True))
        return {
            split: self._generate_examples(x, y, rows)
            for split, rows in stratified(y).items()
        }

    def _generate_examples(
        self, table: np.ndarray, labels: np.ndarray, rows: np.ndarray
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for row in rows.tolist():
            yield row, {"features": table[row], "label": int(labels[row])}
