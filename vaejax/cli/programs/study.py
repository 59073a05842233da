"""The program `study`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vaejax import Experiment
from vaejax.cli import commands, parse
from vaejax.cli.judging import Judges
from vaejax.cli.measuring import EvaluationSettings


def main(
    make: Callable[..., Experiment],
    vary: Mapping[str, Sequence[Any]],
    fixed: Mapping[str, Any],
    workdir: Path | None = None,
    seeds: int = 3,
    devices: int | None = None,
    importance_samples: int = 0,
    classifier: Path | None = None,
    num: int = 10_000,
    track: tuple[str, ...] = ("auto",),
) -> None:
    """Trains settings x seeds side by side; the same command again resumes.

    Args:
      workdir: folder of the study; by default runs/PRESET-study.
      seeds: runs of each combination of settings, from --seed upwards.
      devices: local devices at most; by default all, which are cores on a CPU.
      importance_samples: for each test example, for its likelihood; 0 leaves it out.
      classifier: run of the preset classifier, which judges samples of all runs.
      num: samples of each replica that the classifier judges.
      track: services that follow each replica: tensorboard, wandb, trackio, or none;
        auto is TensorBoard, where it is installed.
    """
    folder = workdir or Path("runs") / f"{make.__name__}-study"
    commands.train_study(
        make,
        vary,
        fixed,
        folder,
        seeds,
        devices,
        EvaluationSettings(importance_samples),
        Judges(classifier, num),
        track,
    )


def run(argv: Sequence[str] | None = None) -> None:
    """Runs the command line: `argv`, or else the arguments of the process."""
    parse.run_preset(main, parse.with_varied_settings, argv)
