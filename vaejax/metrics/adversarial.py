"""Scores of a critic on held-out data."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from vaejax.experiment import Metric, Quantity
from vaejax.inference.terms import infer
from vaejax.metrics.base import averages
from vaejax.metrics.likelihood import KL, MSE, squared_error
from vaejax.objectives.adversarial import Subjects, judge
from vaejax.types import Array, Batch, Key, Variables


def critic_scores(subjects: Callable[[Any, Batch, Key], Subjects]) -> Metric:
    """Mean scores of held-out subjects and of fakes, and their gap.

    The gap of a Wasserstein critic estimates a distance; of any critic it says how
    far it tells data from samples. The score of an example is the mean of its map,
    where the critic scores patches.
    """

    def values(
        model: nn.Module, variables: Variables, batch: Batch, key: Key
    ) -> dict[str, Array]:
        def scores(model: Any) -> tuple[Array, Array]:
            real, fakes = judge(model, subjects(model, batch, key), batch)
            fake = jnp.stack([each.of_examples for each in fakes.values()])
            return real.of_examples, fake.mean(0)

        real, fake = nn.apply(scores, model)(variables)
        return {"real_score": real, "fake_score": fake, "gap": real - fake}

    quantities = {
        "real_score": Quantity("the critic's score of data"),
        "fake_score": Quantity("the critic's score of fakes"),
        "gap": Quantity("their difference", in_line=True),
    }
    return averages(quantities, values)


def autoencoding(*, kl: bool = True) -> Metric:
    """Mean squared error of E[x | z], z ~ q(z | x), and KL(q || p) in nats.

    Args:
      kl: whether q has a density; the KL of a point mass is infinite.
    """
    quantities = {"mse": MSE, "kl": KL} if kl else {"mse": MSE}

    def values(
        model: nn.Module, variables: Variables, batch: Batch, key: Key
    ) -> dict[str, Array]:
        i = nn.apply(infer, model)(variables, batch, key)
        return {"mse": squared_error(i, batch), "kl": i.kl[0]}

    return averages(quantities, values)
