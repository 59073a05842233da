"""The program `evaluate`."""

from collections.abc import Sequence
from pathlib import Path

from vaejax.cli import commands, commands_data, commands_laboratory, parse
from vaejax.errors import InputError
from vaejax.laboratory.settings import Laboratory, WhatName
from vaejax.samplers.record import SamplerName


def main(
    workdir: parse.Workdir,
    samples: int = 5000,
    split: str = "test",
    batch_size: int = 100,
    classifier: Path | None = None,
    num: int = 10_000,
    devices: int = 1,
    out: Path | None = None,
    distributed: bool = False,
    coordinator: str | None = None,
    hosts: int | None = None,
    host: int | None = None,
    heartbeat: int = 100,
    input: Path | None = None,
    per_example: Path | None = None,
    features: str = "",
    inception: Path | None = None,
    lpips: Path | None = None,
    sampler: SamplerName = "prior",
    temperature: float | None = None,
    what: tuple[WhatName, ...] = (),
    lab: Laboratory = Laboratory(),
) -> None:
    """ELBO, importance-weighted likelihood, bits/dim and active units of a run.

    Args:
      workdir: folder of the run, or of a shared model, or hf://owner/name.
      samples: importance samples for each example; 0 leaves the likelihood out.
      split: train, validation or test.
      batch_size: examples at a time.
      classifier: run of the preset classifier, which judges samples of this run.
      num: samples that are compared with as many test examples, at most.
      devices: devices to use of each host, over which batches are split.
      out: where to write the numbers; by default evaluation.json of the run.
      distributed: evaluate on several hosts together; start the same command on all.
      coordinator: address:port of host 0, where JAX does not know it.
      hosts: number of hosts, where JAX cannot find it out.
      host: the number of this one, from 0, where JAX does not know it.
      heartbeat: seconds of silence after which a host is given up and all end.
      input: .csv, .npz or folder of pictures to evaluate on, like those that were
        trained on, instead of a split; on one host.
      per_example: .npz for the numbers of each example, which compare.py pairs; as
        RUN/per_example.npz it finds them.
      features: what samples are compared in: random, for a network of fixed random
        weights, or an .npz with features of your own, real and generated.
      inception: .npz or .safetensors with Inception's weights, for fid and kid.
      lpips: folder with weights of torchvision's vgg16 and of the linear layers of
        LPIPS, as .npz or .safetensors, for lpips of reconstructions.
      sampler: what judged samples are drawn from, as in sample.py: prior, or gmm, flow
        or two_stage, fitted to encodings and kept in the run.
      temperature: of judged samples, as in sample.py: below 1 they are more typical and
        less diverse.
      what: measurements that take longer, instead of all that: the likelihood over K,
        by annealed importance sampling (ais), the gaps of inference, the
        rate-distortion curve, the aggregated posterior, the noise of gradients, scores
        of disentanglement by known factors, and how codes tell labels (representation);
        kept in RUN/laboratory, where a command that was stopped goes on.
      lab: settings of --what.
    """
    judged = classifier is not None or inception is not None or features
    drawn = {"sampler": sampler != "prior", "temperature": temperature is not None}
    if any(drawn.values()) and not judged:
        flag = next(name for name, given in drawn.items() if given)
        raise InputError(
            f"--{flag} is of samples that are judged: give --classifier, --features or "
            "--inception, or draw them with sample.py"
        )
    if what:
        others = (input, classifier, inception, lpips, per_example)
        if any(o is not None for o in others) or features or distributed:
            raise InputError(
                "--what goes without --input, --classifier, --features, --inception, "
                "--lpips, --per-example and hosts"
            )
        if devices != 1:
            raise InputError("--what measures on one device: leave --devices out")
        commands_laboratory.measure_run(workdir, what, lab, samples, split, num, out)
        return
    if input is not None:
        if judged or lpips is not None or distributed or split != "test":
            raise InputError(
                "--input goes without --split, --classifier, --features, --inception, "
                "--lpips and hosts"
            )
        how = samples, batch_size, devices
        commands_data.evaluate_own(workdir, input, *how, out, per_example)
        return
    commands.join_hosts(distributed, coordinator, hosts, host, heartbeat)
    commands.evaluate_run(
        workdir,
        samples,
        split,
        batch_size,
        classifier,
        num,
        devices,
        out,
        per_example,
        features,
        inception,
        sampler,
        temperature,
        lpips,
    )


def run(argv: Sequence[str] | None = None) -> None:
    """Runs the command line: `argv`, or else the arguments of the process."""
    parse.run_script(main, argv)
