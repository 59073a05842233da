"""How well a model tells labels, and its bound of log p(x) without them."""

import flax.linen as nn
import jax.numpy as jnp

from vaejax.experiment import Metric, Quantity
from vaejax.metrics.base import averages
from vaejax.objectives.semisupervised import marginal_bound
from vaejax.types import Array, Batch, Key, Variables

QUANTITIES = {
    "cross_entropy": Quantity("-log p(y | x)", "nats", in_line=True),
    "accuracy": Quantity("share of right labels", "share", in_line=True),
    "error": Quantity("share of wrong labels", "share"),
}


def classification() -> Metric:
    """Cross-entropy in nats, accuracy and error of a model with `log_labels`.

    They are of the examples that have a label.
    """

    def values(
        model: nn.Module, variables: Variables, batch: Batch, key: Key
    ) -> dict[str, Array]:
        del key
        log_q = jnp.asarray(model.apply(variables, batch, method="log_labels"))
        y = batch["y"]
        right = jnp.take_along_axis(log_q, jnp.maximum(y, 0)[:, None], 1)[:, 0]
        hits = (log_q.argmax(-1) == y).astype(jnp.float32)
        known = jnp.where(y >= 0, 1.0, 0.0)
        found = {"cross_entropy": -right, "accuracy": hits, "error": 1 - hits}
        return found | {"known": known}

    return averages(QUANTITIES, values, counted="known")


def marginal_elbo() -> Metric:
    """The bound U(x) of log p(x), which sums over labels, nats per example."""

    def values(
        model: nn.Module, variables: Variables, batch: Batch, key: Key
    ) -> dict[str, Array]:
        return {"marginal_elbo": nn.apply(marginal_bound, model)(variables, batch, key)}

    told = Quantity("lower bound of log p(x), over all labels", "nats", in_line=True)
    return averages({"marginal_elbo": told}, values)
