"""Samples from a run: python scripts/sample.py runs/a --num 64 --out samples.png"""

from pathlib import Path

from vaejax import cli, commands


def main(
    workdir: cli.Workdir,
    num: int = 64,
    out: Path = Path("samples.png"),
    label: tuple[str, ...] = (),
    noise: bool = False,
    seed: int = 0,
) -> None:
    """Draws examples from a trained model, as a picture or as arrays.

    Args:
      workdir: folder of the run.
      num: how many.
      out: a .png (a grid of images), or an .npz with `x` in the data's own units.
      label: classes to sample by their names, in turn (conditional models); all by
        default.
      noise: draw x from p(x | z) instead of taking its mean.
      seed: of the draws.
    """
    commands.sample(workdir, num, out, label, noise, seed)


if __name__ == "__main__":
    cli.run(main)
