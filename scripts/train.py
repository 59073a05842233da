"""Trains a preset: python scripts/train.py vae --latents 64 --workdir runs/a"""

from pathlib import Path

from vaejax import Experiment, cli, commands


def main(
    experiment: Experiment,
    workdir: Path | None = None,
    devices: int | None = None,
    debug_nans: bool = False,
) -> None:
    """Trains a model; the same command again resumes.

    Args:
      workdir: folder of the run; by default runs/PRESET.
      devices: local devices to use; all by default.
      debug_nans: stop at the operation that makes a NaN (slow).
    """
    folder = workdir or Path("runs") / experiment.name
    commands.train(experiment, folder, devices, debug_nans)


if __name__ == "__main__":
    cli.run_preset(main)
