"""The base of builders that draw a grid of known factors, or a subset of it."""

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from vaejax.data.grids import GRIDS, chosen_values, folder_name
from vaejax.data.spec import Factor


@dataclasses.dataclass
class GridConfig(tfds.core.BuilderConfig):
    """A subset of the grid: its plain text."""

    subset: str = ""


def grid_config(subset: str) -> GridConfig:
    """The config of a plain subset, as TFDS takes it."""
    return GridConfig(name=folder_name(subset), subset=subset)


def chosen_factors(
    grid: tuple[Factor, ...], chosen: tuple[tuple[int, ...], ...]
) -> dict[str, list[str]]:
    """Names of the values of each factor that varies in a subset."""
    names = {f.name: f.values or tuple(map(str, range(f.size))) for f in grid}
    return {
        name: [every[value] for value in values]
        for (name, every), values in zip(names.items(), chosen, strict=True)
        if len(values) > 1
    }


class GridBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A builder whose examples are drawn from the values of their factors alone.

    There is one split, `train`, in the order of the grid, whose last factor varies
    fastest. Features are the `image`, `label_NAME` for each factor that varies, and,
    where `labelled_by` does, that one as the `label`.
    """

    shape: ClassVar[tuple[int, int, int]]
    description: ClassVar[str]
    citation: ClassVar[str]
    labelled_by: ClassVar[str] = ""

    def draw(self, values: tuple[int, ...], number: int) -> np.ndarray:
        """The picture, uint8 of the shape `shape`, at these values of all factors.

        `number` is its place in the whole grid.
        """
        raise NotImplementedError

    @property
    def chosen(self) -> tuple[tuple[int, ...], ...]:
        """The values of each factor that are drawn."""
        config = self.builder_config
        return chosen_values(self.name, config.subset if config else "")

    def _info(self) -> tfds.core.DatasetInfo:
        names = chosen_factors(GRIDS[self.name], self.chosen)
        features: dict[str, Any] = {
            f"label_{name}": tfds.features.ClassLabel(names=values)
            for name, values in names.items()
        }
        if label := names.get(self.labelled_by):
            features["label"] = tfds.features.ClassLabel(names=label)
        image = tfds.features.Image(shape=self.shape)
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.description,
            features=tfds.features.FeaturesDict({"image": image, **features}),
            citation=self.citation,
            disable_shuffling=True,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        grid, chosen = GRIDS[self.name], self.chosen
        sizes = [factor.size for factor in grid]
        strides = [math.prod(sizes[place + 1 :]) for place in range(len(sizes))]
        places = [range(len(values)) for values in chosen]
        varied = [len(values) > 1 for values in chosen]
        for row, at in enumerate(itertools.product(*places)):
            values = tuple(v[i] for v, i in zip(chosen, at, strict=True))
            number = sum(v * s for v, s in zip(values, strides, strict=True))
            found: dict[str, Any] = {
                f"label_{factor.name}": i
                for factor, i, varies in zip(grid, at, varied, strict=True)
                if varies
            }
            if f"label_{self.labelled_by}" in found:
                found["label"] = found[f"label_{self.labelled_by}"]
            picture = self.draw(values, number)
            # PIL images, since TFDS encodes arrays with TensorFlow.
            found["image"] = Image.fromarray(picture.squeeze())
            yield row, found
