"""Bulk encoding compiled for a device that is not here, and its least time."""

from typing import Any, NamedTuple

import jax

from vaejax import parallel
from vaejax.aot.program import NoRoom, Program, compiled, placed
from vaejax.aot.roofline import Times
from vaejax.aot.topology import Slice
from vaejax.data.preprocess import blank
from vaejax.experiment import Experiment, variables_of
from vaejax.nn.layers import PrecisionName
from vaejax.stages.encoding import compile_encoding, latents_of

PASSES = {"f32": 6, "bf16": 1}
"""Passes of bfloat16 that a TPU makes for a product; XLA counts the FLOPs of one."""


class Encoding(NamedTuple):
    """The figures of a batch that one device encodes alone, as each does."""

    examples: int
    precision: PrecisionName
    """That of hidden layers."""
    needed: float
    """Bytes of its memory."""
    program: Program | None
    """None where it does not fit."""
    times: Times | None
    """The roofline's; None where the work is not known."""

    @property
    def speed(self) -> float | None:
        """Examples a second, at most."""
        return self.times and self.examples / self.times.seconds


def check_encoding(
    experiment: Experiment, place: Slice, examples: int, precision: PrecisionName
) -> Encoding:
    """Compiles the encoding of a batch, as `encode.py` runs it on each device.

    Raises:
      InputError: the model's latents are no data, or it has none.
    """
    mesh = place.single
    whole, split = parallel.replicated(mesh), parallel.rows(mesh)
    state = parallel.abstract_state(experiment, mesh)
    latents = latents_of(experiment, state)
    encode: Any = compile_encoding(experiment, latents, precision)
    raw, key = jax.eval_shape(
        lambda: (blank(experiment.dataset.spec, examples), jax.random.key(0))
    )
    variables = placed(variables_of(state), whole)
    lowered = encode.lower(variables, placed(raw, split), placed(key, whole))
    try:
        made = compiled(lowered, examples)
    except NoRoom as lack:
        return Encoding(examples, precision, lack.needed, None, None)
    times = made.times(place.chip, passes=PASSES[precision])
    return Encoding(examples, precision, made.memory.total, made, times)
