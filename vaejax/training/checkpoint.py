"""Checkpoints: Orbax behind one class, verified when read.

A checkpoint holds arrays, and one digest for each of them. Orbax writes atomically (a
killed save leaves nothing that counts) but does not notice a flipped byte, so a restore
compares digests and falls back from the newest checkpoint to the newest sound one.
"""

import contextlib
import errno
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vaejax.errors import InputError
from vaejax.experiment import TrainState
from vaejax.runtime import multihost
from vaejax.runtime.memory import size
from vaejax.runtime.storage import absolute, is_remote
from vaejax.training.older import filled, older_structure

log = logging.getLogger(__name__)
ITEMS = ("state", "digest")


class Mismatch(Exception):
    """A checkpoint's arrays are not those of the model."""


class Unsound(InputError):
    """There are checkpoints, and none can be used."""


class Checkpoints:
    """The checkpoints in a directory, by step.

    One that only reads changes nothing there: others may be writing.
    """

    def __init__(self, directory: Path, keep: int = 3, reads: bool = False) -> None:
        # Orbax is imported where it is needed: reading a dataset or --help is not.
        import orbax.checkpoint as ocp

        logging.getLogger("absl").setLevel(logging.CRITICAL)
        self._ocp, self._directory = ocp, absolute(directory)
        self._damaged: set[int] = set()
        self._reads = reads
        if reads:
            options = ocp.CheckpointManagerOptions(read_only=True, create=False)
        else:
            options = self._writing(keep)
        self._empty_trash()
        self._manager = ocp.CheckpointManager(
            self._directory, item_names=ITEMS, options=options
        )

    def _writing(self, keep: int) -> Any:
        """Options for Orbax that keep the last `keep`."""
        return self._ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            # Renamed before it is deleted: a half-deleted step never looks whole. In a
            # bucket that would be a copy; its digest is what tells it there.
            todelete_subdir=None if is_remote(self._directory) else ".trash",
            enable_async_checkpointing=True,
        )

    def save(self, step: int, state: Any) -> None:
        """Writes in the background; waits only for the save before."""
        self.wait()
        if step in self._damaged:
            multihost.in_turn(lambda: self._remove(step))
            self._manager.reload()
        if step in self._manager.all_steps():
            return  # the same step of the same run holds the same bits
        args = self._ocp.args
        content = args.Composite(
            state=args.StandardSave(state),
            digest=args.JsonSave(leaf_digests(state)),
        )
        multihost.in_turn(lambda: check_space(self._directory, state))
        with self._one_line():
            self._manager.save(step, args=content, force=True)
        self._empty_trash()

    def _remove(self, step: int) -> None:
        if multihost.first():
            remove(self._directory / str(step))

    def _empty_trash(self) -> None:
        if multihost.first() and not self._reads and not is_remote(self._directory):
            shutil.rmtree(self._directory / ".trash", ignore_errors=True)

    def restore(self, abstract: Any) -> Any | None:
        """The newest sound state, shaped and placed like `abstract`; None without any.

        A damaged checkpoint is passed over with a warning that names it; a later save
        of its step replaces it.

        Raises:
          Unsound: there are checkpoints and not one is sound, or all hold the arrays
            of another model.
        """
        failed: dict[int, Exception] = {}
        while (step := self._newest_but(failed)) is not None:
            try:
                state = self._read(step, abstract)
            except Exception as error:
                # Orbax, TensorStore and JSON raise what they like for broken files.
                failed[step] = error
                self._manager.reload()
                continue
            self._warn(failed)
            return state
        failed = {step: failed[step] for step in failed if step in self.steps()}
        if not failed:
            return None
        newest = self._directory / str(max(failed))
        if all(isinstance(error, Mismatch) for error in failed.values()):
            raise Unsound(f"{newest} holds another model: {failed[max(failed)]}")
        self._warn(failed)
        raise Unsound(
            f"no checkpoint in {self._directory} is sound: move it away to restart"
        )

    def _newest_but(self, failed: Collection[int]) -> int | None:
        """The newest step that was not tried."""
        return max((step for step in self.steps() if step not in failed), default=None)

    def _warn(self, failed: Mapping[int, Exception]) -> None:
        """Says which checkpoints are passed over, but for those that went away since:
        a run that is still training removes old ones.
        """
        for step in sorted(failed.keys() & {*self.steps()}, reverse=True):
            reason = " ".join(str(failed[step]).split())[:150]
            where = self._directory / str(step)
            log.warning(
                "checkpoint %s is damaged, looking for an older one: %s", where, reason
            )
            self._damaged.add(step)

    def _read(self, step: int, abstract: Any) -> Any:
        args = self._ocp.args
        wanted = args.Composite(digest=args.JsonRestore())
        expected = self._manager.restore(step, args=wanted)["digest"]
        older = older_structure(expected, abstract)
        check_structure(expected, older)
        wanted = args.Composite(state=args.StandardRestore(older))
        state = self._manager.restore(step, args=wanted)["state"]
        bad = [
            leaf
            for leaf, value in leaf_digests(state).items()
            if expected[leaf] != value
        ]
        if multihost.gathered(bool(bad)).any():
            where = bad[0] if bad else "another host"
            raise ValueError(f"its digest differs at {where}")
        if (inside := step_of(state)) not in (None, step):
            raise ValueError(f"it is of step {inside}")
        return filled(state, abstract)

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def wait(self) -> None:
        """Waits for the save under way; OSError where it failed."""
        with self._one_line():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the save under way, and lets go of the directory.

        After a failed save Orbax is not waited for: its threads may wait for minutes.
        """
        self.wait()
        self._empty_trash()
        self._manager.close()

    @contextlib.contextmanager
    def _one_line(self) -> Iterator[None]:
        """An error of writing, of which Orbax has many kinds, as an OSError."""
        try:
            yield
        except Exception as error:
            code = re.search(r"os_error_code='(\d+)'", str(error))
            reason = os.strerror(int(code[1])) if code else " ".join(str(error).split())
            raise OSError(
                None, f"{reason[:150]} (checkpoint not written)", str(self._directory)
            ) from error


def read_newest(directory: Path, abstract: Any) -> Any | None:
    """The newest sound state of a directory that others may be writing to.

    None where there is no checkpoint; Unsound where none can be used.
    """
    if not directory.is_dir():
        return None
    with contextlib.closing(Checkpoints(directory, reads=True)) as checkpoints:
        return checkpoints.restore(abstract)


def step_of(state: Any) -> int | None:
    """The step that a state is of; None for other trees."""
    return (
        int(multihost.gathered_array(state.step))
        if isinstance(state, TrainState)
        else None
    )


def remove(folder: Path) -> None:
    """Removes a folder and all in it."""
    if is_remote(folder):
        from etils import epath

        epath.Path(folder).rmtree()
    else:
        shutil.rmtree(folder)


def check_space(directory: Path, state: Any) -> None:
    """OSError where the disk cannot hold another checkpoint of this state."""
    if is_remote(directory):
        return
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    free = shutil.disk_usage(directory).free
    if free < needed:
        reason = f"{size(needed)} needed for a checkpoint, {size(free)} free"
        raise OSError(errno.ENOSPC, reason, str(directory))


def leaf_digests(tree: Any) -> dict[str, str]:
    """dtype, shape and hash of the content of every leaf, by its path."""
    return {
        jax.tree_util.keystr(path): leaf_digest(multihost.gathered_array(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def leaf_digest(array: np.ndarray) -> str:
    """`dtype[shape]:hash`."""
    content = hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=8)
    return f"{kind(array)}:{content.hexdigest()}"


def kind(array: Any) -> str:
    """`dtype[shape]`."""
    return f"{array.dtype}{list(array.shape)}"


def check_structure(digests: dict[str, str], abstract: Any) -> None:
    """Raises Mismatch where leaves, shapes or dtypes are not those of `abstract`."""
    leaves = jax.tree_util.tree_leaves_with_path(abstract)
    wanted = {jax.tree_util.keystr(path): kind(leaf) for path, leaf in leaves}
    there = {leaf: value.partition(":")[0] for leaf, value in digests.items()}
    for leaf in sorted(wanted.keys() | there.keys()):
        if wanted.get(leaf) != there.get(leaf):
            raise Mismatch(
                f"{leaf} is {there.get(leaf, 'absent')} there and "
                f"{wanted.get(leaf, 'absent')} here"
            )
