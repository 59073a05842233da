"""Sources of features for `evaluate`, beside a classifier: opened before it starts."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState
from vaejax.runtime.limits import check_count
from vaejax.samplers.record import AS_MODELLED, Drawing, SamplerName

Compare = Callable[[Experiment, TrainState], dict[str, Any]]
RANDOM = "random"


@dataclasses.dataclass(frozen=True)
class Judges:
    """Networks that judge samples and reconstructions.

    Args:
      classifier: run of the preset classifier, which judges samples of this run.
      num: samples that are compared with as many test examples, at most.
      features: what samples are compared in: random, for a network of fixed random
        weights, or an .npz with features of your own, real and generated.
      inception: .npz or .safetensors with Inception's weights, for fid and kid.
      lpips: folder with weights of torchvision's vgg16 and of the linear layers of
        LPIPS, as .npz or .safetensors, for lpips of reconstructions.
      sampler: what judged samples are drawn from, as in sample.py: prior, or gmm, flow
        or two_stage, fitted to encodings and kept in the run.
      temperature: of judged samples, as in sample.py: below 1 they are more typical and
        less diverse.
    """

    classifier: Path | None = None
    num: int = 10_000
    features: str = ""
    inception: Path | None = None
    lpips: Path | None = None
    sampler: SamplerName = "prior"
    temperature: float | None = None

    @property
    def of_samples(self) -> bool:
        """Whether any of them sees samples."""
        named = self.classifier is not None or self.inception is not None
        return named or bool(self.features)

    @property
    def named(self) -> bool:
        """Whether there is any."""
        return self.of_samples or self.lpips is not None

    def check_drawing(self) -> None:
        """InputError where samples are described that nobody sees."""
        drawn = {
            "sampler": self.sampler != "prior",
            "temperature": self.temperature is not None,
        }
        if any(drawn.values()) and not self.of_samples:
            flag = next(name for name, given in drawn.items() if given)
            raise InputError(
                f"--{flag} is of samples that are judged: give --classifier, "
                "--features or --inception, or draw them with sample.py"
            )


def open_comparisons(
    experiment: Experiment, judges: Judges, drawing: Drawing = AS_MODELLED
) -> tuple[Compare, ...]:
    """A function for each of the sources, which gives its numbers.

    Raises:
      InputError: a source cannot be opened, or sees other data than the run's.
    """
    features, inception, num = judges.features, judges.inception, judges.num
    if not features and inception is None:
        return ()
    from vaejax.apply.capabilities import require_generator
    from vaejax.metrics.features import LEAST
    from vaejax.metrics.own_features import compare_file, read_features
    from vaejax.metrics.sources import held_out_units, random_features

    sources, found = [], []
    if features == RANDOM:
        sources.append(random_features(experiment.dataset.spec))
    elif features.endswith(".npz"):
        read_features(Path(features))
        found.append(lambda experiment, state: compare_file(Path(features)))
    elif features:
        raise InputError(advice(features))
    if inception is not None:
        from vaejax.metrics.fid import inception_features

        sources.append(inception_features(inception, experiment.dataset.spec))
    if sources:
        check_count("num", num, LEAST)
        require_generator(experiment)
        held_out_units(experiment, 1)  # refuses data with holes
    found += [
        partial(compare_both, source=s, num=num, drawing=drawing) for s in sources
    ]
    return tuple(found)


def compare_both(
    experiment: Experiment,
    state: TrainState,
    source: Any,
    num: int,
    drawing: Drawing,
) -> dict[str, Any]:
    """Distances of samples, and of reconstructions where the model makes any, to the
    same features of test examples.
    """
    from vaejax.metrics import reconstructions, sources

    units = sources.held_out_units(experiment, num)
    real = sources.features_of(source, sources.pieces_of(units))
    found = sources.compare_samples(
        experiment, state, source, num=num, real=real, **drawing._asdict()
    )
    if not reconstructions.reconstructs(experiment):
        return found
    return found | reconstructions.compare_reconstructions(
        experiment, state, source, num, real
    )


def measure_lpips(
    experiment: Experiment, folder: Path | None
) -> tuple[Experiment, tuple[Compare, ...]]:
    """The experiment with LPIPS among its metrics, and what names its weights.

    Raises:
      InputError: the folder holds no weights of it, or the run has no reconstructions
        that it sees.
    """
    if folder is None:
        return experiment, ()
    from vaejax.metrics.perceptual import lpips_perceptual, with_perceptual_error

    perceptual = lpips_perceptual(folder, experiment.dataset.spec)
    named = {"lpips_digest": perceptual.digest}
    return with_perceptual_error(experiment, perceptual), (lambda *run: named,)


def advice(features: str) -> str:
    """One line on a source that there is not."""
    if features.lower() in ("fid", "kid", "inception"):
        from vaejax.metrics.fid import BRING

        return f"--features {features}: {BRING}"
    return (
        f"--features {features}: give {RANDOM}, or the name of an .npz with real and "
        "generated [examples, features]"
    )
