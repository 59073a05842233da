"""The program `sample`."""

from collections.abc import Sequence
from pathlib import Path

from vaejax.cli import examples, parse
from vaejax.samplers.record import SamplerName


def main(
    workdir: parse.Workdir,
    num: int = 64,
    out: Path = Path("samples.png"),
    label: tuple[str, ...] = (),
    noise: bool = False,
    seed: int = 0,
    mean: bool = False,
    sampler: SamplerName = "prior",
    components: int = 0,
    refit: bool = False,
    temperature: float | None = None,
    top_k: int | None = None,
    first: Path | None = None,
) -> None:
    """Draws examples from a trained model, as a picture, arrays or rows of a table.

    Args:
      workdir: folder of the run, or of a shared model, or hf://owner/name.
      num: number of samples.
      out: a .png (a grid of images), an .npz with `x` in the data's own units and, of
        conditional models, labels `y`, or a .csv: rows with the names, texts and units
        of the table that was trained on.
      label: classes to sample by their names, in turn (conditional models); all by
        default.
      noise: draw x from p(x | z) instead of taking its mean; rows of a .csv always are.
      seed: seed of the draws.
      mean: write means to a .csv, the most probable of categories, instead of draws.
      sampler: what latents are drawn from: the model's prior, or a density fitted to
        the encodings of the training split and kept in the run: gmm, a mixture of
        Gaussians; flow, a RealNVP; two_stage, a second VAE.
      components: Gaussians of gmm; 0: ten, or one for each label.
      refit: fit the sampler again instead of taking the one that the run keeps.
      temperature: multiplies the spread of p(z), in each block of latents, or of the
        sampler; below 1 samples are more typical and less diverse, 0 takes the means.
        Of a model of codes it divides the logits of each code.
      top_k: codes, the most probable at each place, that a model of codes draws from;
        0: all. By default as it was trained.
      first: folder of the run that decodes the samples of a second stage; by default
        where that run was when it encoded.
    """
    choice = examples.Choice(sampler, components, refit, temperature, top_k, first)
    examples.write_samples(workdir, num, out, label, noise, seed, mean, choice)


def run(argv: Sequence[str] | None = None) -> None:
    """Runs the command line: `argv`, or else the arguments of the process."""
    parse.run_script(main, argv)
