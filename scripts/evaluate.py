"""Evaluates a run: python scripts/evaluate.py runs/a --samples 5000"""

from vaejax import cli, commands


def main(
    workdir: cli.Workdir,
    samples: int = 5000,
    split: str = "test",
    batch_size: int = 100,
) -> None:
    """ELBO, importance-weighted likelihood, bits/dim and active units of a run.

    Args:
      workdir: folder of the run.
      samples: importance samples for each example; 0 leaves the likelihood out.
      split: train, validation or test.
      batch_size: examples at a time.
    """
    commands.evaluate(workdir, samples, split, batch_size)


if __name__ == "__main__":
    cli.run(main)
