"""The program `impute`."""

from collections.abc import Sequence
from pathlib import Path

from vaejax.apply.impute import Method
from vaejax.cli import examples, parse


def main(
    workdir: parse.Workdir,
    input: Path,
    out: Path,
    multiple: int = 0,
    samples: int = 1000,
    method: Method = "importance",
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Fills what is missing in a table or in images by a trained model.

    Observed entries are copied unchanged. Of a table the single imputation is
    the mean of numbers and the most probable of categories.

    Args:
      workdir: folder of the run, or of a shared model, or hf://owner/name.
      input: .csv (or .tsv, .csv.gz) with the columns that were trained on, or .npz with
        x (NaN is a hole) and, for images, mask.
      out: where to write, of the same kind; with --multiple 20 also
        out-01 to out-20.
      multiple: draws of the missing entries beside the single imputation.
      samples: importance samples, or steps of the Markov chain.
      method: importance, or the chains pseudo_gibbs and metropolis.
      seed: seed of all noise.
      overwrite: let what is written take the place of the input.
    """
    examples.fill_file(workdir, input, out, multiple, samples, method, seed, overwrite)


def run(argv: Sequence[str] | None = None) -> None:
    """Runs the command line: `argv`, or else the arguments of the process."""
    parse.run_script(main, argv)
