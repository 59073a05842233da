"""Starting a run from the parameters of another one, or of a shared folder."""

import functools
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from vaejax import parallel
from vaejax.errors import InputError
from vaejax.experiment import TrainState, variables_of
from vaejax.runtime import multihost
from vaejax.training.checkpoint import kind, leaf_digests
from vaejax.training.config import Origin
from vaejax.training.workdir import kept_steps, load

Trees = dict[str, dict[str, Any]]
"""`params`, and each collection of statistics: the arrays of each part."""
MOST = 8
"""Names of parts or arrays that a message lists."""


class InitFrom:
    """A trained model whose parameters a new run starts from: all, or some parts.

    They are those that an evaluation of the source takes, averaged ones if any. It is
    read when it is first needed: a run that goes on does not need it.
    """

    def __init__(self, source: str | os.PathLike[str], parts: Sequence[str]) -> None:
        self.source, self.parts = os.fspath(source), tuple(parts)
        if len(set(self.parts)) < len(self.parts):
            raise InputError(
                f"--init-parts {' '.join(self.parts)}: name each part once"
            )

    @functools.cached_property
    def _state(self) -> TrainState:
        _, state = load(self.source)
        return jax.tree.map(multihost.gathered_array, state._replace(opt_state={}))

    @functools.cached_property
    def origin(self) -> Origin:
        """The record of it; reads the source."""
        leaves = leaf_digests(variables_of(self._state))
        content = json.dumps(leaves, sort_keys=True).encode()
        digest = hashlib.blake2b(content, digest_size=8).hexdigest()
        return Origin(self.source, self.parts, int(self._state.step), digest)

    @property
    def given(self) -> str:
        """The source and its parts, as they were given."""
        return " ".join([self.source, *self.parts])

    def read_together(self, workdir: Path) -> None:
        """Reads the source, on all hosts at once, where a run has no checkpoint yet."""
        begins = not kept_steps(workdir / "checkpoints")
        if multihost.gathered(begins).any():
            _ = self.origin

    def check_same(self, recorded: Origin) -> None:
        """InputError where the source is not the one that a run started from."""
        if self.origin.digest != recorded.digest:
            raise InputError(
                f"{self.source} is not what this run started from: its digest is "
                f"{self.origin.digest} and was {recorded.digest}. Give that one, or "
                "another --workdir"
            )

    def differences(self, recorded: Origin | None) -> list[str]:
        """What differs from the record of a run, each as `name old (here new)`.

        A source of another name is read, on one host: it may be the same, moved.
        """
        if recorded is None:
            return [f"init_from none (here {self.source})"]
        if self.parts != recorded.parts:
            old, new = (
                " ".join(each) or "all" for each in (recorded.parts, self.parts)
            )
            return [f"init_parts {old} (here {new})"]
        named = self.source == recorded.source
        if named or (multihost.alone() and self.origin.digest == recorded.digest):
            return []
        return [f"init_from {recorded.source} (here {self.source})"]

    def taken(self, state: TrainState) -> tuple[str, ...]:
        """The parts to take, checked against those of a new state.

        InputError where there is no such part, or an array of one is missing, too
        many, or has another shape.
        """
        there = by_part(variables_of(self._state))
        here = by_part({"params": state.params, **state.stats})
        if not self.parts:
            check_same_parts(there.keys(), here.keys(), self.source)
        for part in self.parts:
            if part not in there or part not in here:
                raise InputError(
                    f"--init-parts {part}: {self.source} has {name_list(there)}, "
                    f"and the new run has {name_list(here)}"
                )
        parts = self.parts or tuple(sorted(here))
        for part in parts:
            check_part(part, there[part], here[part], self.source)
        return parts

    def replaced(self, state: TrainState) -> TrainState:
        """A new state with the parameters and statistics of the parts to take.

        Step, optimizers and other parts stay; the average starts at the parameters.
        """
        parts, found = self.taken(state), variables_of(self._state)

        def of_source(own: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict:
            chosen = {p: theirs[p] for p in parts if p in own and p in theirs}
            placed = {
                part: jax.tree.map(
                    lambda a, b: parallel.put(a, b.sharding), tree, own[part]
                )
                for part, tree in chosen.items()
            }
            return {**own, **placed}

        return state._replace(
            params=of_source(state.params, found["params"]),
            ema=of_source(state.ema, found["params"]),
            stats={
                n: of_source(own, found.get(n, {})) for n, own in state.stats.items()
            },
        )

    def words(self, state: TrainState) -> str:
        """The line about what a new run takes, and what starts over."""
        here = by_part({"params": state.params, **state.stats})
        parts = self.parts or tuple(sorted(here))
        fresh = sorted(here.keys() - {*parts})
        begun = f"; initialized: {', '.join(fresh)}" if fresh else ""
        return f"starts from {self.origin.words}: {', '.join(parts)}{begun}"


def init_source(
    source: str | os.PathLike[str] | None, parts: Sequence[str]
) -> InitFrom | None:
    """The source of `--init-from` and `--init-parts`, if any."""
    if isinstance(parts, str):
        raise InputError(f"init_parts are a sequence: give ({parts!r},)")
    if source is not None:
        return InitFrom(source, parts)
    if parts:
        raise InputError(
            "--init-parts are of --init-from: name the run to take them of"
        )
    return None


def by_part(trees: Mapping[str, Mapping[str, Any]]) -> Trees:
    """`{part: {collection: arrays}}`, of parts with arrays."""
    found: Trees = {}
    for collection, parts in trees.items():
        for part, tree in parts.items():
            if jax.tree.leaves(tree):
                found.setdefault(part, {})[collection] = tree
    return found


def check_same_parts(there: Iterable[str], here: Iterable[str], source: str) -> None:
    """InputError where the parts are not the same, with those that are."""
    theirs, own = {*there}, {*here}
    if theirs == own:
        return
    missing = f"it lacks {name_list(own - theirs)}" if own - theirs else ""
    unexpected = f"it has besides {name_list(theirs - own)}" if theirs - own else ""
    common = " ".join(sorted(theirs & own))
    remedy = f"take --init-parts {common}" if common else "they have no part in common"
    what = " and ".join(filter(None, [missing, unexpected]))
    raise InputError(
        f"--init-from {source} has other parts than the new run: {what}; {remedy}"
    )


def check_part(part: str, there: Any, here: Any, source: str) -> None:
    """InputError where the arrays of a part differ in names, shapes or dtypes."""
    theirs, own = arrays_by_name(part, there), arrays_by_name(part, here)
    missing, unexpected = own.keys() - theirs.keys(), theirs.keys() - own.keys()
    if missing or unexpected:
        lacks = f"it lacks {name_list(missing)}" if missing else ""
        besides = f"it has besides {name_list(unexpected)}" if unexpected else ""
        what = " and ".join(filter(None, [lacks, besides]))
        raise InputError(
            f"{part} of {source} has other arrays than that of the new run: {what}"
        )
    for name, array in own.items():
        if kind(theirs[name]) != kind(array):
            raise InputError(
                f"{name} is {kind(theirs[name])} in {source} and {kind(array)} here: "
                "give the settings of its networks, or leave the part out of "
                "--init-parts"
            )


def arrays_by_name(part: str, collections: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays as `encoder/body/Dense_0/kernel`; those of statistics say whose."""
    found = {}
    for collection, tree in collections.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            of = "" if collection == "params" else f" ({collection})"
            found[f"{part}/{name}{of}"] = leaf
    return found


def name_list(names: Iterable[str]) -> str:
    """The first names, and how many there are besides."""
    known = sorted(names)
    more = f" and {len(known) - MOST} more" if len(known) > MOST else ""
    return ", ".join(known[:MOST]) + more or "no part"
