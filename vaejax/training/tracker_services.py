"""TensorBoard, Weights & Biases and trackio, as trackers.

Each needs a package of its own, which is loaded when a run begins.
"""

import contextlib
import contextvars
import io
import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from vaejax.runtime.storage import is_remote

if TYPE_CHECKING:
    from vaejax.training.trackers import TrackedRun

FINISH = 300
"""Seconds to wait for uploads at the end, where WANDB_FINISH_TIMEOUT says nothing."""


def named_by_split(split: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """`split/name`, so that a number of training is none of the test."""
    return {f"{split}/{name}": value for name, value in metrics.items()}


class TensorBoard:
    """Event files in the workdir. Rows after the step that training goes on from are
    purged by the viewer.
    """

    def begin(self, run: "TrackedRun") -> None:
        """Opens a file of events."""
        from tensorboardX import SummaryWriter

        assert run.folder is not None
        place = str(run.folder / "tensorboard")
        self._writer = SummaryWriter(place, purge_step=run.step + 1)

    def write(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        """A point of each curve."""
        for name, value in named_by_split(split, metrics).items():
            self._writer.add_scalar(name, value, step)

    def sync(self) -> None:
        """To the disk."""
        self._writer.flush()

    def summarize(self, numbers: Mapping[str, float | str]) -> None:
        """Nothing: the card lies beside the files."""

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()


class Wandb:
    """A run of Weights & Biases, online or, with WANDB_MODE=offline, in the workdir.

    Its rows cannot be taken back: those that it has are not sent again. They are the
    same, as a run that goes on repeats its steps. Offline nothing can be asked, so each
    start writes a folder with the whole log: the newest is the one to upload.
    """

    def begin(self, run: "TrackedRun") -> str:
        """Begins a run or goes on with it."""
        import wandb

        local = run.folder is not None and not is_remote(run.folder)
        patience = float(os.environ.get("WANDB_FINISH_TIMEOUT", FINISH))
        settings = wandb.Settings(
            silent=True,  # it says in many lines what `begin` returns in one
            console="off",
            finish_timeout=patience,
            finish_timeout_raises=True,
        )
        self._run = wandb.init(
            project=run.project,
            id=run.id,
            name=run.name,
            group=run.group or None,
            dir=str(run.folder) if local else None,
            config=dict(run.config),
            allow_val_change=True,  # of epochs, where a run is prolonged
            resume="allow",
            reinit="create_new",  # the replicas of a study are open side by side
            settings=settings,
        )
        self._next = self._run.starting_step
        for row in run.rows:
            self.write(**sent(row))
        if self._run.offline:
            return (
                f"tracked by wandb, offline: wandb sync {self._run.settings.sync_dir}"
            )
        return f"tracked by wandb: {self._run.url}"

    def write(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        """A row, where it is new."""
        if step >= self._next:
            self._run.log(named_by_split(split, metrics), step=step)

    def sync(self) -> None:
        """Nothing: another process uploads all the time."""

    def summarize(self, numbers: Mapping[str, float | str]) -> None:
        """Into the summary, which tables of runs show."""
        self._run.summary.update(dict(numbers))

    def close(self) -> None:
        """Waits for uploads; raises where they take too long."""
        self._run.finish()


class Trackio:
    """A run in trackio's data base on this machine (TRACKIO_DIR), or in a Space.

    Its rows are not taken back, and those that it has are not sent again.
    """

    def begin(self, run: "TrackedRun") -> str:
        """Begins a run or goes on with it; its machine's load is not logged."""
        import trackio

        init = partial(
            trackio.init,
            project=run.project,
            name=f"{run.name}-{run.id}",  # by which it is found again
            group=run.group or None,
            config=dict(run.config),
            resume="allow",
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
        )
        with contextlib.redirect_stdout(io.StringIO()):
            # In a context of its own, or the run that was begun before would be ended.
            self._run = contextvars.copy_context().run(init)
        self._next = self._run._next_step
        for row in run.rows:
            self.write(**sent(row))
        return f"tracked by trackio: trackio show --project {run.project}"

    def write(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        """A row, where it is new."""
        if step >= self._next:
            self._run.log(named_by_split(split, metrics), step=step)

    def sync(self) -> None:
        """Nothing: a thread writes twice a second, and what it lacks is sent again."""

    def summarize(self, numbers: Mapping[str, float | str]) -> None:
        """A row of an evaluation after training, at its step: there is no summary."""
        if numbers.get("evaluation/during_training", True):
            return
        known = {n: v for n, v in numbers.items() if n.startswith("evaluation/")}
        row = {n: v for n, v in known.items() if isinstance(v, int | float)}
        self._run.log(row, step=int(numbers["evaluation/step"]))

    def close(self) -> None:
        """Waits for what is still to be written."""
        with contextlib.redirect_stdout(io.StringIO()):
            self._run.finish()


def sent(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the log as the arguments of `write`."""
    metrics = {n: v for n, v in row.items() if n not in ("step", "split")}
    return {"step": row["step"], "split": row["split"], "metrics": metrics}
