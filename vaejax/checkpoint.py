"""Checkpoints: Orbax behind one class, verified when read.

A checkpoint holds arrays, and one digest for each of them. Orbax writes atomically (a
killed save leaves nothing that counts) but does not notice a flipped byte, so a restore
compares digests and falls back from the newest checkpoint to the newest sound one.
"""

import hashlib
import logging
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np

log = logging.getLogger(__name__)
ITEMS = ("state", "digest")


class Checkpoints:
    """The checkpoints in a directory, by step."""

    def __init__(self, directory: Path, keep: int = 3) -> None:
        # Orbax is imported where it is needed: reading a dataset or --help is not.
        import orbax.checkpoint as ocp

        logging.getLogger("absl").setLevel(logging.ERROR)
        self._ocp, self._directory = ocp, directory.absolute()
        shutil.rmtree(self._directory / ".trash", ignore_errors=True)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            # Renamed before it is deleted: a half-deleted step never looks whole.
            todelete_subdir=".trash",
            enable_async_checkpointing=True,
        )
        self._manager = ocp.CheckpointManager(
            self._directory, item_names=ITEMS, options=options
        )

    def save(self, step: int, state: Any) -> None:
        """Writes in the background; waits only for the save before."""
        self._manager.wait_until_finished()
        if step in self._manager.all_steps():
            return  # the same step of the same run holds the same bits
        args = self._ocp.args
        content = args.Composite(
            state=args.StandardSave(state), digest=args.JsonSave(digest(state))
        )
        self._manager.save(step, args=content, force=True)
        shutil.rmtree(self._directory / ".trash", ignore_errors=True)

    def restore(self, abstract: Any) -> Any | None:
        """The newest sound state, shaped and placed like `abstract`; None without any.

        A damaged checkpoint is passed over with a warning that names it, and removed,
        so that the run can write that step again.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                return self._read(step, abstract)
            except Exception as error:
                reason = " ".join(str(error).split())[:200]
                where = self._directory / str(step)
                log.warning(
                    "checkpoint %s is damaged (%s): using an older one", where, reason
                )
        return None

    def _read(self, step: int, abstract: Any) -> Any:
        args = self._ocp.args
        content = args.Composite(
            state=args.StandardRestore(abstract), digest=args.JsonRestore()
        )
        read = self._manager.restore(step, args=content)
        expected, found = read.digest, digest(read.state)
        bad = [leaf for leaf, value in found.items() if expected.get(leaf) != value]
        if bad:
            raise ValueError(f"its digest differs at {bad[0]}")
        return read.state

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def close(self) -> None:
        """Waits for the last save."""
        self._manager.wait_until_finished()
        self._manager.close()


def digest(tree: Any) -> dict[str, str]:
    """dtype, shape and hash of the content of every leaf, by its path."""
    return {
        jax.tree_util.keystr(path): leaf_digest(np.asarray(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def leaf_digest(array: np.ndarray) -> str:
    """`dtype[shape]:hash`."""
    content = hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=8)
    return f"{array.dtype}{list(array.shape)}:{content.hexdigest()}"
