"""1,797 digits of 8 x 8 pixels, as scikit-learn ships them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.datasets import load_digits

from vaejax.data.builders import VERSIONS
from vaejax.data.builders._stratified import stratified

_DESCRIPTION = """
The 1,797 handwritten digits of 8 x 8 pixels that scikit-learn ships: the test set of
"Optical Recognition of Handwritten Digits" (UCI). A pixel counts the dark ones of 4 x 4
in a finer scan, 0 to 16; here these counts are scaled to grey levels,
round(255 * count / 16). A fifth of every class is for testing, chosen once: 1,438 and
359 examples.
"""
_CITATION = """
@misc{alpaydin1998optical,
  title={Optical Recognition of Handwritten Digits},
  author={Alpaydin, Ethem and Kaynak, Cenk},
  howpublished={UCI Machine Learning Repository}, year={1998},
  doi={10.24432/C50P49}
}
"""


class Digits(tfds.core.GeneratorBasedBuilder):
    """Builder of `digits`."""

    name = "digits"
    VERSION = tfds.core.Version(VERSIONS["digits"])
    RELEASE_NOTES = {"1.0.0": "scikit-learn's digits, four fifths and one fifth."}

    def _info(self) -> tfds.core.DatasetInfo:
        image = tfds.features.Image(shape=(8, 8, 1))
        label = tfds.features.ClassLabel(num_classes=10)
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict({"image": image, "label": label}),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
            citation=_CITATION,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        counts, y = map(np.asarray, load_digits(return_X_y=True))
        images = np.round(counts * 255 / 16).astype(np.uint8).reshape(-1, 8, 8)
        return {
            split: self._generate_examples(images, y, rows)
            for split, rows in stratified(y).items()
        }

    def _generate_examples(
        self, images: np.ndarray, labels: np.ndarray, rows: np.ndarray
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        # PIL images, since TFDS encodes arrays with TensorFlow.
        for row in rows.tolist():
            image = Image.fromarray(images[row])
            yield row, {"image": image, "label": int(labels[row])}
