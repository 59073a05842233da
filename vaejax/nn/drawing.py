"""Initialization that compiles fast: what is drawn alike is drawn together."""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import (
    ClosedJaxpr,
    Jaxpr,
    JaxprEqn,
    Literal,
    Var,
    jaxpr_as_fun,
    no_effects,
)

from vaejax.types import Key


def drawn_together(init: Callable[..., Any]) -> Callable[..., Any]:
    """`init(key, ...)`, which returns the same arrays, up to the rounding of the last
    bit, and compiles faster.

    Flax folds the hash of each parameter's path into one key and draws the parameter
    with the result, and XLA compiles every fold and every draw by itself: minutes, of a
    deep network. Here one loop draws all parameters of the same shape and distribution,
    and the forward pass, of which parameters need the shapes alone, is dropped before
    it is lowered.
    """

    def together(key: Key, *args: Any) -> Any:
        traced, shapes = jax.make_jaxpr(init, return_shape=True)(key, *args)
        program = traced.jaxpr
        found = draw_alike(key, draws_of(program))
        others = [n for n in range(len(program.outvars)) if n not in found]
        rest = live(program.replace(outvars=[program.outvars[n] for n in others]))
        leaves = jax.tree.leaves((key, *args))
        computed = jaxpr_as_fun(ClosedJaxpr(rest, traced.consts))(*leaves)
        found |= dict(zip(others, computed, strict=True))
        structure = jax.tree.structure(shapes)
        return structure.unflatten([found[n] for n in range(len(found))])

    return together


class Draw(NamedTuple):
    """How an array comes from a key into which a number is folded."""

    number: int
    program: Jaxpr
    """The array, of the key after the fold."""

    distribution: Hashable
    """The same value for arrays of one shape that are drawn from one distribution."""


def draw_alike(key: Key, draws: dict[int, Draw]) -> dict[int, jax.Array]:
    """The arrays by their names, those of a distribution by one program."""
    alike: dict[Hashable, list[int]] = {}
    for name, draw in draws.items():
        alike.setdefault(draw.distribution, []).append(name)
    ordered = [name for names in alike.values() for name in names]
    numbers = np.array([draws[name].number for name in ordered], np.uint32)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
    arrays, start = {}, 0
    for names in alike.values():
        one = jaxpr_as_fun(ClosedJaxpr(draws[names[0]].program, []))
        # A loop: of a vector of draws XLA would compile a part again for each array.
        (stacked,) = jax.lax.map(one, keys[start : start + len(names)])
        arrays |= dict(zip(names, jnp.unstack(stacked), strict=True))
        start += len(names)
    return arrays


def draws_of(program: Jaxpr) -> dict[int, Draw]:
    """The results, by their places, that are of one fold of the first input alone."""
    makers = {made: each for each in program.eqns for made in each.outvars}
    root, *_ = program.invars
    found = {}
    for place, result in enumerate(program.outvars):
        if isinstance(result, Var) and (draw := draw_of(result, root, makers, program)):
            found[place] = draw
    return found


def draw_of(
    result: Var, root: Var, makers: dict[Var, JaxprEqn], program: Jaxpr
) -> Draw | None:
    """None where the result is of something else, too, or of no fold."""
    folds: dict[Var, int] = {}
    steps: dict[int, JaxprEqn] = {}
    pending: list[tuple[Var, bool]] = [(result, False)]
    while pending:
        variable, operands_done = pending.pop()
        equation = makers.get(variable)
        if equation is None or equation.effects:
            return None
        if operands_done:
            steps.setdefault(id(equation), equation)
        elif (number := folded_number(equation, root)) is not None:
            folds[variable] = number
        elif id(equation) not in steps:
            operands = [each for each in equation.invars if isinstance(each, Var)]
            pending += [(variable, True), *((each, False) for each in operands)]
    if len(folds) != 1:
        return None
    ((key, number),) = folds.items()
    own = program.replace(
        constvars=[],
        invars=[key],
        outvars=[result],
        eqns=[*steps.values()],
        effects=no_effects,
    )
    return Draw(number, own, without_variables(own))


def folded_number(equation: JaxprEqn, key: Var) -> int | None:
    """The constant that an equation folds into this key; None where it does not."""
    if equation.primitive.name == "random_fold_in":
        folded_into, number = equation.invars
        if folded_into is key and isinstance(number, Literal):
            return int(number.val)
    return None


def without_variables(program: Jaxpr) -> Hashable:
    """The same value for programs that differ in the names of their variables alone."""
    numbered = {each: n for n, each in enumerate(program.invars)}

    def operand(each: Var | Literal) -> Hashable:
        if isinstance(each, Literal):
            return str(each.aval), np.asarray(each.val).tobytes()
        return numbered[each]

    done = []
    for equation in program.eqns:
        operands = tuple(map(operand, equation.invars))
        settings = tuple((n, as_hashable(v)) for n, v in equation.params.items())
        done.append((equation.primitive, settings, operands))
        for made in equation.outvars:
            numbered[made] = len(numbered)
    return tuple(done), tuple(map(operand, program.outvars))


def as_hashable(value: Any) -> Hashable:
    """A setting of an equation, or where it cannot be hashed, which object it is."""
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value


def live(program: Jaxpr) -> Jaxpr:
    """The program without what no result and no effect depends on."""
    wanted, kept = set(map(id, program.outvars)), []
    for equation in reversed(program.eqns):
        if equation.effects or any(id(each) in wanted for each in equation.outvars):
            kept.append(equation)
            wanted.update(map(id, equation.invars))
    return program.replace(eqns=kept[::-1])
