"""Evaluates a run: python scripts/evaluate.py runs/a --samples 5000"""

from pathlib import Path

from vaejax import cli, commands


def main(
    workdir: cli.Workdir,
    samples: int = 5000,
    split: str = "test",
    batch_size: int = 100,
    classifier: Path | None = None,
    num: int = 10_000,
) -> None:
    """ELBO, importance-weighted likelihood, bits/dim and active units of a run.

    Args:
      workdir: folder of the run.
      samples: importance samples for each example; 0 leaves the likelihood out.
      split: train, validation or test.
      batch_size: examples at a time.
      classifier: run of the preset classifier, which judges samples of this run.
      num: how many samples it judges.
    """
    commands.evaluate(workdir, samples, split, batch_size, classifier, num)


if __name__ == "__main__":
    cli.run(main)
