"""The arithmetic of a traced step, from which its time is guessed before it ran."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax

SPEED: Mapping[str, float] = {"cpu": 1e11}
"""Operations per second of a few idle cores; of others see below. A lower number would
cut, and compile for several lengths, where an epoch is one call of a second or two; a
busy machine may take longer once, and is measured from then on.
"""
ACCELERATOR = 1e12
LEAST = 5e-4  # seconds of the smallest step


def slow_guess(jaxpr: Any) -> float:
    """Seconds of a traced step on modest hardware, by its products and convolutions."""
    return LEAST + operations(jaxpr) / SPEED.get(jax.default_backend(), ACCELERATOR)


def operations(jaxpr: Any) -> float:
    """Additions and multiplications of products and convolutions."""
    found = 0.0
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        inside = sum(map(operations, inner_jaxprs(equation.params)))
        found += product_operations(equation) + times * inside
    return found


def product_operations(equation: Any) -> float:
    """Those of one equation; 0 where it is neither product nor convolution."""
    name, params = equation.primitive.name, equation.params
    if name not in ("dot_general", "conv_general_dilated"):
        return 0.0
    left, right = (each.aval.shape for each in equation.invars)
    out = math.prod(equation.outvars[0].aval.shape)
    if name == "dot_general":
        (summed, _), _ = params["dimension_numbers"]
        return 2.0 * out * math.prod(left[axis] for axis in summed)
    channels = right[params["dimension_numbers"].rhs_spec[0]]
    return 2.0 * out * math.prod(right) / channels


def inner_jaxprs(params: Mapping[str, Any]) -> Iterator[Any]:
    """The programs inside an equation."""
    for value in params.values():
        for each in value if isinstance(value, (tuple, list)) else (value,):
            if hasattr(getattr(each, "jaxpr", each), "eqns"):
                yield each


def slow_in_scan() -> bool:
    """Whether a step with convolutions is better called by itself.

    XLA's CPU backend compiles a convolution inside a loop to naive code, some 20 times
    slower than outside; a step that has one is long enough to be called by itself.
    """
    return jax.default_backend() == "cpu"


def convolves(jaxpr: Any) -> bool:
    """Whether a traced function has a convolution."""
    return "conv_general_dilated" in str(jaxpr)
