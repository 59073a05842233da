"""Mains of the scripts that read or write users' own examples."""

import dataclasses
from pathlib import Path

import numpy as np

from vaejax.apply.own import encode_own, on_own
from vaejax.apply.rows import write_codes
from vaejax.cli.commands import keep_compiled
from vaejax.cli.effort import warn_of_passes
from vaejax.cli.measuring import EvaluationSettings
from vaejax.cli.outcome import keep_examples, keep_numbers, place_of
from vaejax.cli.tables import print_table
from vaejax.errors import InputError
from vaejax.metrics.quantities import quantities_of
from vaejax.runtime.limits import check_count
from vaejax.stages.bulk import BulkSettings, encode_bulk
from vaejax.training.evaluator import measure_split
from vaejax.training.per_example import check_example_file, measurement_of
from vaejax.training.workdir import load, readable_workdir


def encode_file(
    workdir: Path, source: Path, out: Path, batch_size: int, seed: int
) -> None:
    """Writes the codes of a file's examples."""
    check_out(out)
    keep_compiled()
    experiment, state = load(workdir)
    codes = encode_own(experiment, state, source, batch_size, seed)
    if not (np.isfinite(codes.mean).all() and np.isfinite(codes.scale).all()):
        raise InputError(f"{source} has values that are too large for float32")
    write_codes(codes, out)
    count, latents = codes.mean.shape
    print(f"encoded {count:,} examples to {latents} latents; wrote {out}")


def encode_data(place: str, out: Path, settings: BulkSettings) -> None:
    """Writes the latents of a whole data set into a folder."""
    keep_compiled()
    manifest = encode_bulk(place, out, settings)
    latents = manifest.latents
    shape = " x ".join(map(str, latents.shape))
    what = f"codes of {latents.levels:,}" if latents.levels else "means"
    count = sum(manifest.source.sizes.values())
    scale = " scaled" if manifest.scaling.applied else ""
    print(f"encoded {count:,} examples as {shape}{scale} {what}; wrote {out}")


def check_out(out: Path) -> None:
    """InputError where a table cannot be written there."""
    if out.suffix not in (".csv", ".npz"):
        raise InputError(f"--out {out}: the name must end in .csv or .npz")
    place_of(out, out)


def evaluate_own(
    workdir: Path,
    source: Path,
    evaluation: EvaluationSettings,
    out: Path | None = None,
    examples_out: Path | None = None,
) -> None:
    """Prints the metrics over a file's examples, and writes them: to `out`, or else
    beside the run's; those of each example to `examples_out`.

    `evaluation.json`, which reports are made of, stays that of the run's own data.
    """
    samples, batch_size = evaluation.samples, evaluation.batch_size
    check_count("samples", samples)
    check_count("batch_size", batch_size, 1)
    workdir = readable_workdir(workdir)
    place = place_of(out, workdir / f"evaluation-{source.stem}.json")
    check_example_file(examples_out)
    keep_compiled()
    experiment, state = load(workdir)
    experiment = on_own(experiment, source)
    warn_of_passes(samples, experiment.dataset.size("test"))
    found = measure_split(experiment, state, **dataclasses.asdict(evaluation))
    values = found.values
    title = f"{experiment.name} on {source}"
    print_table(title, values, quantities_of(experiment))
    noted = {"input": str(source), "samples": samples, "batch_size": batch_size}
    record = noted | {"step": int(state.step)} | values
    keep_numbers(record, values, place, named=out is not None)
    if examples_out is not None:
        how = {**evaluation.part, "source": source.name}
        about = measurement_of(experiment, state, **how)
        keep_examples(experiment, about, found, examples_out)
