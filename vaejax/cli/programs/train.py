"""The program `train`."""

from collections.abc import Sequence
from pathlib import Path

from vaejax import Experiment
from vaejax.cli import commands, parse
from vaejax.cli.hosts import Hosts


def main(
    experiment: Experiment,
    workdir: Path | None = None,
    devices: int | None = None,
    debug_nans: bool = False,
    profile: str = "",
    workers: int = 0,
    track: tuple[str, ...] = ("auto",),
    init_from: str | None = None,
    init_parts: tuple[str, ...] = (),
    hosts: Hosts = Hosts(),
) -> None:
    """Trains a model; the same command again resumes.

    Args:
      workdir: folder of the run; by default runs/PRESET.
      devices: devices to use of each host; all by default.
      debug_nans: stop at the operation that makes a NaN (slow).
      profile: steps to write a trace of for XProf, as 100:105.
      workers: processes of each host that decode what streams; 0 is threads.
      track: services that follow the run: tensorboard, wandb, trackio, or none; auto
        is TensorBoard, where it is installed.
      init_from: run or shared folder whose parameters a new run starts from.
      init_parts: parts to take from there, as encoder decoder; all by default.
      hosts: several hosts that work together.
    """
    hosts.join()
    folder = workdir or Path("runs") / experiment.name
    commands.train_run(
        experiment,
        folder,
        devices,
        debug_nans,
        profile,
        workers,
        track,
        init_from,
        init_parts,
    )


def run(argv: Sequence[str] | None = None) -> None:
    """Runs the command line: `argv`, or else the arguments of the process."""
    parse.run_preset(main, parse.with_settings, argv)
