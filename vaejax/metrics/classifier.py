"""Samples of a run as a classifier of another run sees them."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from vaejax import parallel
from vaejax.data.kinds import kind_of
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState, variables_of
from vaejax.metrics.features import compare_features
from vaejax.metrics.reconstructions import (
    reconstruction_distances,
    reconstructions_of,
    reconstructs,
)
from vaejax.metrics.sources import CHUNK, drawn_samples, held_out_units, pieces_of
from vaejax.models import Judge, classifies, conditional, generates
from vaejax.models.critic import Critique
from vaejax.samplers.record import AS_MODELLED, Drawing, state_digest
from vaejax.training.evaluator import conditions_to_generate, held_out_examples
from vaejax.training.workdir import load
from vaejax.types import Array


def see(model: Judge, variables: Mapping, x: Array) -> Critique:
    """Logits and features of the classifier."""
    return model.apply(  # pyright: ignore[reportReturnType]
        variables, method=lambda judge: judge.classifier(x, {"x": x})
    )


def looked_at(
    experiment: Experiment, state: TrainState, parts: Iterator[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The classes that the classifier sees `[N]`, and its last features `[N, F]`."""
    look = parallel.compile_function(see, experiment.model)
    seen = [look(variables_of(state), jnp.asarray(part)) for part in parts]
    return (
        np.concatenate([np.asarray(each.score.argmax(-1)) for each in seen]),
        np.concatenate([np.asarray(each.features[-1]) for each in seen]),
    )


def judged(
    experiment: Experiment,
    state: TrainState,
    classifier: Path,
    num: int = 10_000,
    seed: int = 0,
    chunk: int = CHUNK,
    drawing: Drawing = AS_MODELLED,
) -> dict[str, float | str | int]:
    """A classifier's verdict on `num` samples (the model's means E[x | z]).

    A model that completes a fixed region is given that of test examples, in turn.
    `label_accuracy` is the share of samples that are seen as the label they were
    asked for (conditional models only, labels in turn); `least_class_share` that of
    the rarest class; the numbers of `compare_features` compare features with those of
    as many test examples as there are, at most `num`; `rfd_*` and `rkd_*` compare those
    of reconstructions with their images; `classifier_digest` is of its weights.

    Raises:
      InputError: the run is no classifier, or of data of another shape.
    """
    judge, trained = load(classifier)
    check_judge(experiment, judge, classifier)
    given = conditions_to_generate(experiment, num)
    labels = given.get("y", np.zeros(num, np.int32))
    drawn = drawn_samples(experiment, state, num, seed, chunk, drawing)
    classes, features = looked_at(judge, trained, drawn)
    data = held_out_examples(judge, num)["x"]
    _, real = looked_at(judge, trained, pieces_of(data, chunk))
    name = f"{judge.name}_{judge.dataset.spec.name}"
    shares = np.bincount(classes, minlength=judge.dataset.spec.classes) / num
    return {
        **accuracy(experiment, judge, labels, classes),
        "least_class_share": float(shares.min()),
        **compare_features(real, features, name),
        **seen_again(experiment, state, judge, trained, num),
        "generated": num,
        "compared_with": len(data),
        "classifier_digest": state_digest(trained),
    }


def seen_again(
    experiment: Experiment,
    state: TrainState,
    judge: Experiment,
    trained: TrainState,
    num: int,
) -> dict[str, float]:
    """Distances of reconstructed images to theirs, of the run's own test split; nothing
    of a model that makes none.
    """
    spec = experiment.dataset.spec
    if not kind_of(spec).scaled or not reconstructs(experiment):
        return {}
    x = held_out_units(experiment, num).astype(np.float32) / (spec.levels - 1)
    _, real = looked_at(judge, trained, pieces_of(x))
    _, again = looked_at(judge, trained, reconstructions_of(experiment, state, num))
    name = f"{judge.name}_{judge.dataset.spec.name}"
    return reconstruction_distances(real, again, name)


def accuracy(
    experiment: Experiment, judge: Experiment, labels: np.ndarray, seen: np.ndarray
) -> dict[str, float]:
    """Share of samples seen as the label that was asked for, by the names of classes;
    nothing of a model that is asked for none.
    """
    if not conditional(experiment.model):
        return {}
    wanted = judge.dataset.spec.label_index(experiment.dataset.spec.class_names)
    return {"label_accuracy": float((seen == wanted[labels]).mean())}


def check_judge(experiment: Experiment, judge: Experiment, where: Path) -> Judge:
    """The classifier; InputError where it cannot judge the other run's samples."""
    if not classifies(judge.model):
        raise InputError(f"--classifier {where} holds {judge.name}: train a classifier")
    if judge.dataset.spec.shape != experiment.dataset.spec.shape:
        raise InputError(
            f"--classifier {where} is of {judge.dataset.spec.name}, whose examples "
            "have another shape"
        )
    if not generates(experiment.model):
        raise InputError(f"{experiment.name} generates nothing to judge")
    if conditional(experiment.model):
        lacking = set(experiment.dataset.spec.class_names)
        try:
            judge.dataset.spec.label_index(sorted(lacking))
        except InputError as error:
            raise InputError(f"--classifier {where} knows {error}") from None
    return judge.model
