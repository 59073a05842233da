"""What the scripts do, once their flags are parsed."""

import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vaejax import parallel
from vaejax.apply.impute import Method, check_room, collapse
from vaejax.apply.impute import impute as fill
from vaejax.apply.query import sample as sample_model
from vaejax.apply.rows import write_npz, write_rows
from vaejax.cli.effort import check_measuring, check_sampling, warn_of_passes
from vaejax.cli.outcome import finite, keep_numbers, place_of
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState
from vaejax.metrics.meanings import MEANINGS
from vaejax.metrics.weights import distrust
from vaejax.models import conditional
from vaejax.runtime import multihost
from vaejax.runtime.limits import check_count
from vaejax.runtime.storage import is_remote, write_whole
from vaejax.sweeps.summary import Row, summarize
from vaejax.sweeps.sweep import study, value_text
from vaejax.training.evaluator import conditions_to_generate
from vaejax.training.evaluator import evaluate as evaluate_split
from vaejax.training.loop import train as train_experiment
from vaejax.training.profiling import Profile
from vaejax.training.workdir import load, workdir_of, write_json
from vaejax.types import Key


def join_hosts(
    distributed: bool,
    coordinator: str | None,
    number: int | None,
    host: int | None,
    heartbeat: int,
) -> None:
    """Joins the other hosts, where there are any."""
    check_count("heartbeat", heartbeat, 1)
    if distributed:
        multihost.join(coordinator, number, host, heartbeat)
    elif (coordinator, number, host) != (None, None, None):
        raise InputError("--coordinator, --hosts and --host need --distributed")


def train_run(
    experiment: Experiment,
    workdir: Path,
    devices: int | None,
    debug_nans: bool,
    profile: str = "",
    workers: int = 0,
) -> None:
    """Trains in a workdir and says what to do next."""
    check_count("workers", workers)
    workdir = workdir_of(workdir)
    if profile and is_remote(workdir):
        raise InputError("--profile writes to this machine: give a local --workdir")
    trace = Profile.parse(profile, workdir / "profile") if profile else None
    keep_compiled()
    jax.config.update("jax_debug_nans", debug_nans)
    state = train_experiment(
        experiment, workdir, devices=devices, profile=trace, workers=workers
    )
    try_report(workdir, experiment, of_this_host(state))
    if multihost.first():
        print(f"done; next: python scripts/evaluate.py {workdir}")


def of_this_host(state: TrainState) -> TrainState:
    """What pictures need of a state, whole on one device: all hosts must call this."""
    needed = state._replace(opt_state={})
    return jax.device_put(
        jax.tree.map(multihost.gathered_array, needed), jax.local_devices()[0]
    )


def try_report(workdir: Path, experiment: Experiment, state: TrainState) -> None:
    """Writes a run's page, on the first host; a failure is a warning in one line.

    The run is kept already, and a page is never worth it.
    """
    if not multihost.first():
        return
    from vaejax.reports import write_report as write

    try:
        print(f"wrote {write(workdir, experiment, state)}")
    except Exception as error:  # of drawing or of the disk: the run has succeeded
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        print(f"warning: no report of {workdir}: {reason}", file=sys.stderr)


def write_page(workdirs: Sequence[Path], out: Path | None) -> None:
    """Writes a run's page, or one that compares several."""
    from vaejax.reports import report as write

    keep_compiled()
    print(f"wrote {write(*workdirs, out=out)}")


def evaluate_run(
    workdir: Path,
    samples: int,
    split: str,
    batch_size: int,
    classifier: Path | None = None,
    num: int = 10_000,
    devices: int = 1,
    out: Path | None = None,
) -> None:
    """Prints a table and writes it as JSON: to `out`, or else `evaluation.json`.

    The numbers are printed first. A run that cannot be written keeps its page.
    """
    workdir = workdir_of(workdir)
    place = place_of(out, workdir / "evaluation.json")
    keep_compiled()
    experiment, state = load(workdir)
    check_measuring(experiment, samples, split, classifier, num)
    found = measured(
        experiment, state, samples, split, batch_size, classifier, num, devices
    )
    values, seen = found.values, found.seen
    state = of_this_host(state)
    if not multihost.first():
        return
    print_table(f"{experiment.name} on {experiment.dataset.spec.name}, {split}", values)
    if "elbo" in values:
        print(f"{split} negative ELBO {-values['elbo']:.2f} nats")
    for name, value in seen.items():
        print(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}")
    if keep_numbers(found.record, values, place, named=out is not None) and out is None:
        try_report(workdir, experiment, state)


class Measured(NamedTuple):
    """The result of an evaluation."""

    settings: dict[str, Any]
    values: dict[str, float]
    """The metrics over the split."""
    seen: dict[str, Any]
    """A classifier's measures of samples."""

    @property
    def record(self) -> dict[str, Any]:
        """The content of `evaluation.json`, where all numbers are finite."""
        return self.settings | self.values | self.seen


def measured(
    experiment: Experiment,
    state: TrainState,
    samples: int,
    split: str = "test",
    batch_size: int = 100,
    classifier: Path | None = None,
    num: int = 10_000,
    devices: int = 1,
) -> Measured:
    """The metrics over a split, and what a classifier says."""
    settings = {"split": split, "samples": samples, "batch_size": batch_size}
    given = {"devices": devices, "classifier": str(classifier), "num": num}
    multihost.same(settings | given, setting_differences)
    values = evaluate_split(
        experiment,
        state,
        split=split,
        samples=samples,
        batch_size=batch_size,
        devices=devices,
    )
    seen = {}
    if classifier is not None:
        from vaejax.metrics.classifier import judged  # loads SciPy

        seen = judged(experiment, state, classifier, num)
    return Measured(settings | {"step": int(state.step)}, values, seen)


def setting_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Settings that differ, each as `name old (here new)`."""
    return [f"{n} {old[n]} (here {new[n]})" for n in new if old[n] != new[n]]


def train_study(
    make: Callable[..., Experiment],
    vary: Mapping[str, Sequence[Any]],
    fixed: Mapping[str, Any],
    workdir: Path,
    seeds: int,
    devices: int | None,
    samples: int,
    classifier: Path | None,
    num: int,
) -> None:
    """Trains and measures all replicas; writes and prints the study's table."""
    workdir = workdir_of(workdir)
    keep_compiled()
    parallel.device_per_core()
    first = make(**{**fixed, **{name: each[0] for name, each in vary.items() if each}})
    check_measuring(first, samples, "test", classifier, num, "importance_samples")
    replicas = study(make, workdir, vary, seeds=seeds, devices=devices, **fixed)
    numbers = []
    for replica in replicas:
        if replica.diverged:
            print(
                f"{replica.folder.name} diverged: {replica.diverged}", file=sys.stderr
            )
            numbers.append(None)
            continue
        loaded = load(replica.folder)
        found = measured(*loaded, samples, "test", 100, classifier, num)
        write_json(replica.folder / "evaluation.json", finite(found.record))
        numbers.append(found.values | found.seen)
        try_report(replica.folder, *loaded)
    rows = summarize(replicas, numbers)
    write_json(workdir / "table.json", [row._asdict() for row in rows])
    table = markdown(rows)
    write_whole(workdir / "table.md", table)
    print(table, end="")
    print(f"wrote {workdir / 'table.md'}")
    write_page([workdir], None)


def markdown(rows: Sequence[Row]) -> str:
    """A line for each row of a study: settings, and every mean with its deviation."""
    from rich import box
    from rich.table import Table

    from vaejax.runtime.terminal import console

    noted = ("examples", "generated", "compared_with")  # the same for all
    names = dict.fromkeys(name for row in rows for name in row.mean)
    shown = [n for n in names if n not in noted and not n.endswith("_se")]
    lost = any(row.diverged for row in rows)
    heads = [*rows[0].settings, "seeds", *(["diverged"] if lost else []), *shown]
    table = Table(*heads, box=box.MARKDOWN)
    for row in rows:
        counts = [row.replicas, *([row.diverged] if lost else [])]
        cells = [value_text(value) for value in row.settings.values()]
        table.add_row(*cells, *map(str, counts), *(cell(row, n) for n in shown))
    text = io.StringIO()
    console(text, width=10_000).print(table)
    lines = (line.strip() for line in text.getvalue().splitlines())
    return "".join(f"{line}\n" for line in lines if line)


def cell(row: Row, name: str) -> str:
    """As in `104.2 ± 0.3`; no deviation where it is unknown or all are equal."""
    if name not in row.mean:
        return ""
    mean, deviation = f"{row.mean[name]:.5g}", row.deviation.get(name, 0.0)
    return f"{mean} ± {deviation:.2g}" if deviation > 0 else mean


def print_table(title: str, values: Mapping[str, float]) -> None:
    """Values with standard errors over examples, what they mean, and what to doubt."""
    from rich.table import Table

    from vaejax.runtime.terminal import console

    table = Table("metric", "value", "± s.e.", "meaning", title=title)
    for name, meaning in MEANINGS.items():
        if name in values:
            # Where all examples are equal, there is no telling how others would be.
            error = values.get(f"{name}_se", 0.0)
            shown = f"{error:.3g}" if error > 0 else ""
            table.add_row(name, f"{values[name]:.6g}", shown, meaning)
    console().print(table)
    if warning := distrust(values):
        print(warning, file=sys.stderr)


def write_samples(
    workdir: Path,
    num: int,
    out: Path,
    label: tuple[str, ...],
    noise: bool,
    seed: int,
    mean: bool = False,
) -> None:
    """Writes samples as a picture, as arrays, or as rows of a table."""
    if out.suffix not in (".png", ".npz", ".csv"):
        raise InputError(f"--out {out}: the name must end in .png, .npz or .csv")
    keep_compiled()
    experiment, state = load(workdir)
    spec = experiment.dataset.spec
    if out.suffix == ".png" and spec.kind != "image":
        raise InputError(
            f"{workdir} models a table: give --out a name ending in .csv or .npz"
        )
    if out.suffix == ".csv" and spec.kind == "image":
        raise InputError(
            f"{workdir} models images: give --out a name ending in .png or .npz"
        )
    if not hasattr(experiment.model, "likelihood"):
        raise InputError(f"{workdir} holds {experiment.name}, which generates nothing")
    check_sampling(experiment, num, out.suffix == ".png")
    given = conditions_to_generate(experiment, num)
    if label:
        given = given | {"y": labels_in_turn(experiment, label, num)}
    if "context" in given and np.any(given["seen"]):
        print("completes test examples: each keeps what is seen of it")
    noise = noise or (out.suffix == ".csv" and not mean)
    x = draw_samples(experiment, state, jax.random.key(seed), num, noise, given)
    if not np.isfinite(x).all():
        raise InputError(f"{workdir} generates what is no number: its model diverged")
    if out.suffix == ".png":
        from vaejax.plots import save_grid

        save_grid(x, out)
    elif out.suffix == ".csv":
        write_rows(x, spec, out)
    else:
        names = {"columns": np.array([c.name for c in spec.columns])}
        arrays = {"x": experiment.preprocess.restore(x)}
        write_npz(out, arrays | (names if spec.columns else {}))
    print(f"wrote {out}")


def fill_file(
    workdir: Path,
    source: Path,
    out: Path,
    multiple: int,
    samples: int,
    method: Method,
    seed: int,
    overwrite: bool = False,
) -> None:
    """Writes the filled examples and, of multiple imputation, each draw."""
    from vaejax.apply.tables import numbered_path, open_holey, suffix_of

    ends = (suffix_of(out).removesuffix(".gz"), suffix_of(source).removesuffix(".gz"))
    if ends[0] != ends[1]:
        raise InputError(f"--out {out}: the name must end in {suffix_of(source)}")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent}")
    keep_compiled()
    experiment, state = load(workdir)
    holey = open_holey(source, experiment.dataset.spec)
    check_room(multiple, holey.x)
    digits = len(str(multiple))
    draws = [numbered_path(out, f"{n:0{digits}d}") for n in range(1, multiple + 1)]
    for name in (out, *draws):
        if not overwrite and name.exists() and name.samefile(source):
            raise InputError(
                f"{name} is the --input: give another --out or --overwrite"
            )
    warn_of_passes(samples, len(holey.x))
    filled = fill(
        experiment,
        state,
        holey.x,
        holey.mask,
        jax.random.key(seed),
        multiple=multiple,
        samples=samples,
        method=method,
    )
    if warning := collapse(filled, samples):
        print(warning, file=sys.stderr)
    holey.write(filled.single, out)
    for name, x in zip(draws, filled.draws, strict=True):
        holey.write(x, name)
    many = f" and {multiple} draws beside it" if multiple else ""
    print(f"filled {int((~holey.mask).sum())} holes; wrote {out}{many}")


def draw_samples(
    experiment: Experiment,
    state: TrainState,
    key: Key,
    num: int,
    noise: bool,
    given: Mapping[str, Any],
    chunk: int = 10_000,
) -> np.ndarray:
    """Samples `[num, *shape]`, of which no more than `chunk` are computed at once.

    The first chunk is what `vaejax.sample` draws with the key.
    """
    parts = []
    for start in range(0, num, chunk):
        count = min(chunk, num - start)
        own = jax.random.fold_in(key, start) if start else key
        some = {name: each[start : start + count] for name, each in given.items()}
        parts.append(
            np.asarray(
                sample_model(experiment, state, own, count, noise=noise, given=some)
            )
        )
    return np.concatenate(parts)


def labels_in_turn(
    experiment: Experiment, label: tuple[str, ...], num: int
) -> np.ndarray:
    """Indices of `num` labels that go through `label` in turn; InputError where one is
    no class of the training split, or the model is conditioned on none.
    """
    try:
        found = experiment.dataset.spec.label_index(label)
    except InputError as error:
        raise InputError(f"--label: {error}") from None
    if not conditional(experiment.model):
        raise InputError(f"{experiment.name} is not conditioned on labels")
    return np.resize(found, num)


def keep_compiled() -> None:
    """Keeps compiled programs between runs, in the user's cache (or as JAX is told)."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        path = Path(home) / "vaejax" / "jax"
        jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
