"""Speed of training, as a ratio to its matrix products alone."""

import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import NamedTuple

import jax
import numpy as np

from vaejax import parallel
from vaejax.cli.bound_speed import iwae_lines, nll_lines
from vaejax.cli.by_hand import dense_shapes
from vaejax.cli.products import compile_products, fastest, products_of
from vaejax.data.feed import resident_feed
from vaejax.errors import InputError
from vaejax.experiment import Experiment
from vaejax.presets import vae, vaegan
from vaejax.runtime.jsonlines import read_rows
from vaejax.runtime.limits import check_count
from vaejax.training.loop import first_state, train

LATENTS = 20
GAME = {"r1": 0.0, "fakes": "prior", "critic_hidden": (256,)}  # as pythae's defaults


class Workload(NamedTuple):
    """Sizes of what is timed; `samples` are 1 where a model takes none."""

    batch_size: int
    hidden: int
    samples: int


USUAL = {
    "vae": Workload(128, 512, 1),
    "vaegan": Workload(128, 512, 1),
    "iwae": Workload(20, 200, 5),
    "nll": Workload(100, 200, 5000),
}
BOUNDS = {"iwae": iwae_lines, "nll": nll_lines}


def speed_lines(
    model: str, given: Mapping[str, int | None], epochs: int, seeds: int
) -> Iterator[str]:
    """Speeds as text: of each epoch, of the matrix products alone, of whole runs.

    Of `model` vaegan, epochs alone; with `seeds`, those of as many replicas side by
    side, against one after another. `given` are fields of `Workload`, None where they
    are as usual.
    """
    work = chosen_work(model, given, epochs, seeds)
    if model in BOUNDS:
        yield from BOUNDS[model](*work, epochs)
        return
    shape = {"hidden": (work.hidden,), "latents": LATENTS}
    shape |= {"batch_size": work.batch_size, "epochs": epochs + 1}
    shape |= {"binarize": "none", "decay": "constant"}
    experiment = vaegan(**shape, **GAME) if model == "vaegan" else vae(**shape)
    if seeds > 1:
        parallel.device_per_core()
        yield from study_lines(experiment, epochs, seeds)
    elif model == "vaegan":
        yield from (f"examples_per_s {s:.0f}" for s in epoch_speeds(experiment, epochs))
    else:
        yield from vae_lines(experiment, work, epochs)


def chosen_work(
    model: str, given: Mapping[str, int | None], epochs: int, seeds: int
) -> Workload:
    """The work to time; InputError if a number is invalid or not of this model."""
    set_here = {name: value for name, value in given.items() if value is not None}
    for name, value in {**set_here, "epochs": epochs, "seeds": seeds}.items():
        check_count(name, value, 1)
    if model in BOUNDS and seeds > 1:
        raise InputError(f"--seeds is not of --model {model}: leave it out")
    if model not in BOUNDS and "samples" in set_here:
        raise InputError("--samples is of --model iwae and nll: leave it out")
    return USUAL[model]._replace(**set_here)


def vae_lines(experiment: Experiment, work: Workload, epochs: int) -> Iterator[str]:
    """Speeds of epochs, the share of the matrix rate, and a whole run."""
    speeds = []
    for speed in epoch_speeds(experiment, epochs):
        speeds.append(speed)
        yield f"examples_per_s {speed:.0f}"
    step = work.batch_size / median(speeds)
    products = product_seconds(work.batch_size, work.hidden)
    yield f"matmul_fraction {products / step:.2f}"
    with tempfile.TemporaryDirectory() as folder:
        whole, share = whole_run(experiment, Path(folder) / "run")
    yield f"examples_per_s_of_a_whole_run {whole:.0f}"
    yield f"share_of_logs_feed_and_checkpoints {share:.3f}"


def epoch_speeds(experiment: Experiment, epochs: int) -> Iterator[float]:
    """Examples/s of the compiled steps, epoch by epoch, after one to compile."""
    settings, steps = experiment.training, experiment.epoch_steps
    mesh = parallel.make_mesh(1, settings.batch_size)
    feed = resident_feed(experiment.dataset.split("train"), settings.batch_size, 0)
    resident = parallel.place(feed.resident, mesh)
    state, root = first_state(experiment, mesh), jax.random.key(0)
    advance = parallel.compile_steps(experiment, feed, mesh, state, resident).advance
    for epoch in range(epochs + 1):
        start = time.perf_counter()
        xs = feed.take(epoch * steps, (epoch + 1) * steps)
        state, *_ = jax.block_until_ready(advance(state, resident, xs, root))
        if epoch:
            yield steps * settings.batch_size / (time.perf_counter() - start)


def study_lines(experiment: Experiment, epochs: int, seeds: int) -> Iterator[str]:
    """Rounds of one epoch of all replicas, both ways in turn, and their median ratio.

    Replicas use all devices that they divide over, a single run one; all programs are
    compiled before.
    """
    settings, steps = experiment.training, experiment.epoch_steps
    number = settings.batch_size * steps * seeds
    mesh, wide = parallel.make_mesh(1, 1), parallel.study_mesh(None, seeds)
    feed = resident_feed(experiment.dataset.split("train"), settings.batch_size, 0)
    resident = parallel.place(feed.resident, mesh)
    many = parallel.compile_study(lambda settings: experiment, feed, wide)
    everywhere = parallel.place(feed.resident, wide)
    keys = list(jax.random.split(jax.random.key(0), seeds))
    alone = [first_state(experiment, mesh) for _ in keys]
    one = parallel.compile_steps(experiment, feed, mesh, alone[0], resident).advance
    states = parallel.shard_replicas(alone, wide)
    own = parallel.shard_replicas([parallel.Own(key, {}) for key in keys], wide)
    ratios = []
    for epoch in range(epochs + 1):
        xs = feed.take(epoch * steps, (epoch + 1) * steps)
        start = time.perf_counter()
        for place, key in enumerate(keys):
            alone[place], *_ = one(alone[place], resident, xs, key)
        jax.block_until_ready(alone)
        middle = time.perf_counter()
        stacked = np.stack([xs] * seeds, 1)
        states, *_ = jax.block_until_ready(many(states, everywhere, stacked, own))
        end = time.perf_counter()
        if epoch:
            ratios.append((middle - start) / (end - middle))
            side, after = number / (end - middle), number / (middle - start)
            yield f"side_by_side {side:.0f} one_after_another {after:.0f} examples/s"
    yield f"ratio {median(ratios):.2f}"


def whole_run(experiment: Experiment, folder: Path) -> tuple[float, float]:
    """Examples/s of a run that keeps everything, and the share of time not in steps.

    Of three default checkpoint intervals and a half, all after the first: until then
    steps are compiled and Orbax is loaded. Evaluation is left to the end.
    """
    every = experiment.training.checkpoint_every
    epochs = -(-7 * every // 2 // experiment.epoch_steps)
    longer = {"epochs": epochs, "evaluate_every": epochs}
    run = vae(**{**experiment.arguments, **longer})
    train(run, folder, devices=1, quiet=True)
    timing = read_rows(folder / "timing.jsonl")
    rows = [row for row in timing if row["step"] > every + experiment.epoch_steps]
    wall = rows[-1]["seconds"] - rows[0]["seconds"]
    length = experiment.epoch_steps * experiment.training.batch_size
    stepping = sum(length / row["examples_per_s"] for row in rows[1:])
    return length * (len(rows) - 1) / wall, 1 - stepping / wall


def product_seconds(batch: int, hidden: int, repeats: int = 200) -> float:
    """Seconds of the step's matrix products alone: forward, and both gradients."""
    widths = dense_shapes(784, hidden, 2 * LATENTS), dense_shapes(LATENTS, hidden, 784)
    layers = products_of(batch, widths[0], of_data=True) + products_of(batch, widths[1])
    return fastest(compile_products(layers, repeats)) / repeats
