"""Numbers of flows: the error of their velocity, and densities by the equation."""

import math

import flax.linen as nn

from vaejax.experiment import Metric, Quantity
from vaejax.inference.ode import OdeDensity, OdePath
from vaejax.metrics.base import averages
from vaejax.models import RectifiedFlow
from vaejax.objectives.flow_matching import velocity_errors
from vaejax.types import Array, Batch, Key, Variables

VELOCITY_ERROR = Quantity("squared error of the velocity, mean over entries", "", True)


def velocity_error() -> Metric:
    """The loss of flow matching on held-out data: uniform times, labels as they are."""

    def values(
        model: nn.Module, variables: Variables, batch: Batch, key: Key
    ) -> dict[str, Array]:
        found = nn.apply(velocity_errors, model)(variables, batch, key)
        return {"velocity_error": found}

    return averages({"velocity_error": VELOCITY_ERROR}, values)


def ode_likelihood(path: OdePath, *, probes: int, log_bin: float) -> Metric:
    """-log p(x) by the flow's differential equation, nats, and as bits/dim.

    Beside it stand what an example's number is off by: `nll_step_error`, its distance
    from that by half the steps, and, with probes, `nll_probe_error`, its standard error
    over these.

    Args:
      path: number of steps and method.
      probes: random signs that estimate each divergence; 0: it is exact.
      log_bin: log width of a value's bin for densities, 0 for probabilities.
    """
    quantities = {
        "nll": Quantity("-log p(x) by the flow's differential equation", "nats", True),
        "bits_per_dim": Quantity("the same for each number", "bits/dim"),
        "nll_step_error": Quantity("its distance from that by half the steps", "nats"),
    }
    if probes:
        error = Quantity("its standard error over probes, of one example", "nats")
        quantities["nll_probe_error"] = error

    def values(
        model: nn.Module, variables: Variables, batch: Batch, key: Key
    ) -> dict[str, Array]:
        def density(model: RectifiedFlow) -> OdeDensity:
            return model.log_density(batch, key, path, probes)

        found = nn.apply(density, model)(variables)
        size = math.prod(batch["x"].shape[1:])
        told = {
            "nll": -found.log_p,
            "bits_per_dim": (-found.log_p / size - log_bin) / math.log(2),
            "nll_step_error": found.step_error,
            "nll_probe_error": found.probe_error,
        }
        return {name: told[name] for name in quantities}

    return averages(quantities, values)
