"""The program `encode`."""

from collections.abc import Sequence
from pathlib import Path

from vaejax.cli import commands_data, parse
from vaejax.errors import InputError
from vaejax.nn.layers import PrecisionName
from vaejax.stages.bulk import BulkSettings
from vaejax.stages.shards import FormatName


def main(
    workdir: parse.Workdir,
    out: Path,
    input: Path | None = None,
    data: str = "",
    batch_size: int = 0,
    seed: int = 0,
    image_size: int = 0,
    shards: FormatName = "npz",
    shard_rows: int = 10_000,
    scaled: bool = False,
    precision: PrecisionName = "f32",
) -> None:
    """Encodes the examples of a file, or a whole data set into a folder.

    Of a file (--input) means and deviations of q(z | x), row by row; of a data set
    (--data) codes or means, in shards that `--dataset latents:FOLDER` opens. The same
    command again writes the shards that are not there yet.

    Args:
      workdir: folder of the run, or of a shared model, or hf://owner/name; with --data
        also a folder with an autoencoder of diffusers.
      input: .csv with the columns that were trained on, .npz with x and, where the
        model wants them, labels y and a mask, in the data's own units; or a folder of
        pictures, which are taken in the order of their names.
      data: a data set by a name that --dataset of train.py takes.
      out: with --data a folder; with --input a .csv with columns mean_0, ...,
        scale_0, ..., or an .npz with mean and scale; and label, where the file has
        labels.
      batch_size: examples at a time; 0: 500, and with --data by their size.
      seed: seed of the noise of preprocessing (images that are binarized), with
        --input.
      image_size: side in pixels to resize images of --data to; 0: that of training.
      shards: format of the files of --data.
      shard_rows: examples of one of these files.
      scaled: write latents of an autoencoder of diffusers as diffusion models take
        them, less their shift and times its scaling factor, with --data; the manifest
        says so, and they are opened in the units of the autoencoder.
      precision: of hidden layers, with --data: bf16 takes a sixth of the products'
        time on a TPU, and rounds.
    """
    how = shards, shard_rows, scaled, precision
    bulk = BulkSettings(data, image_size, batch_size, *how)
    if data and input is None:
        commands_data.encode_data(str(workdir), out, bulk)
        return
    if input is None or data:
        raise InputError("give either --input FILE or --data DATASET")
    if bulk != BulkSettings("", batch_size=batch_size):
        raise InputError(
            "--image-size, --shards, --shard-rows, --scaled and --precision are of "
            "--data"
        )
    commands_data.encode_file(workdir, input, out, batch_size or 500, seed)


def run(argv: Sequence[str] | None = None) -> None:
    """Runs the command line: `argv`, or else the arguments of the process."""
    parse.run_script(main, argv)
