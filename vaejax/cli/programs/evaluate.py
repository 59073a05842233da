"""The program `evaluate`."""

from collections.abc import Sequence
from pathlib import Path

from vaejax.cli import commands, commands_data, commands_laboratory, parse
from vaejax.cli.hosts import Hosts
from vaejax.cli.judging import Judges
from vaejax.cli.measuring import EvaluationSettings
from vaejax.errors import InputError
from vaejax.laboratory.settings import Laboratory, WhatName


def main(
    workdir: parse.Workdir,
    evaluation: EvaluationSettings = EvaluationSettings(),
    judges: Judges = Judges(),
    out: Path | None = None,
    input: Path | None = None,
    per_example: Path | None = None,
    hosts: Hosts = Hosts(),
    what: tuple[WhatName, ...] = (),
    lab: Laboratory = Laboratory(),
) -> None:
    """ELBO, importance-weighted likelihood, bits/dim and active units of a run.

    Args:
      workdir: folder of the run, or of a shared model, or hf://owner/name.
      evaluation: examples that the run is measured on, and how precisely.
      judges: networks that judge samples and reconstructions.
      out: where to write the numbers; by default evaluation.json of the run.
      input: .csv, .npz or folder of pictures to evaluate on, like those that were
        trained on, instead of a split; on one host.
      per_example: .npz for the numbers of each example, which compare.py pairs; as
        RUN/per_example.npz it finds them.
      hosts: several hosts that work together.
      what: measurements that take longer, instead of all that: the likelihood over K,
        by annealed importance sampling (ais), the gaps of inference, the
        rate-distortion curve, the aggregated posterior, the noise of gradients, scores
        of disentanglement by known factors, and how codes tell labels (representation);
        kept in RUN/laboratory, where a command that was stopped goes on.
      lab: settings of --what.
    """
    judges.check_drawing()
    if what:
        files = input is not None or per_example is not None
        if files or judges.named or hosts.distributed:
            raise InputError(
                "--what goes without --input, --classifier, --features, --inception, "
                "--lpips, --per-example and hosts"
            )
        if evaluation.devices != 1:
            raise InputError("--what measures on one device: leave --devices out")
        samples, split = evaluation.samples, evaluation.split
        how = what, lab, samples, split, judges.num
        commands_laboratory.measure_run(workdir, *how, out)
        return
    if input is not None:
        if judges.named or hosts.distributed or evaluation.split != "test":
            raise InputError(
                "--input goes without --split, --classifier, --features, --inception, "
                "--lpips and hosts"
            )
        commands_data.evaluate_own(workdir, input, evaluation, out, per_example)
        return
    hosts.join()
    commands.evaluate_run(workdir, evaluation, judges, out, per_example)


def run(argv: Sequence[str] | None = None) -> None:
    """Runs the command line: `argv`, or else the arguments of the process."""
    parse.run_script(main, argv)
