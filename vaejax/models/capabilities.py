"""Capabilities of models: other packages ask these functions and name no class."""

from typing import Any, Protocol, TypeGuard, runtime_checkable

from vaejax.errors import InputError, require
from vaejax.models.adversarial import Judge
from vaejax.models.autoregressive import CodePrior
from vaejax.models.base import Generator, LatentModel
from vaejax.models.completion import Completer, Completion
from vaejax.models.staged import TwoStages
from vaejax.types import Array, Batch


def generates(model: Any) -> bool:
    """Whether it makes x of latents."""
    return isinstance(model, Generator)


def infers(model: Any) -> bool:
    """Whether it has latents of x: an encoder."""
    return isinstance(model, LatentModel)


def draws_latents(model: Any) -> bool:
    """Whether what it generates is decoded from latents that may be given."""
    drawn = model.second if isinstance(model, TwoStages) else model
    return generates(model) and not isinstance(drawn, CodePrior)


def encodes(model: Any) -> bool:
    """Whether it has latents of x to show: not where it infers x itself, exactly."""
    return infers(model) and not isinstance(model, CodePrior)


def has_codes(model: Any) -> bool:
    """Whether its latents are codes, whose `values_of` is what `decode` reads; then
    its `encode` has `codes`, and its `prior` their shape and number.
    """
    return infers(model) and hasattr(model, "values_of")


def with_top_k(model: Any, top_k: int) -> Any:
    """The model of codes that draws each from the `top_k` most probable; 0 is all.

    InputError where it is none, or has not so many.
    """
    if not isinstance(model, CodePrior):
        raise InputError("--top-k is of models of codes, as code_transformer")
    most = model.network.vocabulary
    require(
        0 <= top_k <= most, "top_k", top_k, f"from 0 to {most}, the number of codes"
    )
    return model.clone(top_k=top_k)


def weighs_latents(model: Any) -> bool:
    """Whether given latents can be weighed: those of one block."""
    return infers(model) and hasattr(model, "posterior") and hasattr(model, "prior")


def completes(model: Any) -> bool:
    """Whether its latents are drawn given what is seen, so that its encoder, which
    sees all of x, is of no use where a part is missing.
    """
    return isinstance(model, Completer)


def has_baseline(model: Any) -> bool:
    """Whether it completes images beside a deterministic guess."""
    return isinstance(model, Completion)


@runtime_checkable
class Predictor(Protocol):
    """A model with a distribution of labels."""

    def log_labels(self, batch: Batch) -> Array:
        """log q(y | x), nats `[batch, classes]`."""
        ...


def predicts(model: Any) -> TypeGuard[Predictor]:
    """Whether it gives labels to x, beside what else it does."""
    return isinstance(model, Predictor)


def classifies(model: Any) -> TypeGuard[Judge]:
    """Whether it gives labels to x, and nothing else."""
    return isinstance(model, Judge)
