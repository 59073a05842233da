"""Speed of training, as a ratio to its matrix products alone."""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vaejax import parallel
from vaejax.data.feed import resident_feed
from vaejax.experiment import Experiment
from vaejax.presets import vae, vaegan
from vaejax.runtime.jsonlines import read_rows
from vaejax.runtime.limits import check_count
from vaejax.training.loop import first_state, train
from vaejax.types import Array

LATENTS = 20
GAME = {"r1": 0.0, "fakes": "prior", "critic_hidden": (256,)}  # as pythae's defaults


def speed_lines(
    model: str, batch_size: int, epochs: int, hidden: int, seeds: int
) -> Iterator[str]:
    """Speeds as text: of each epoch, of the matrix products alone, of whole runs.

    Of `model` vaegan, epochs alone; with `seeds`, those of as many replicas side by
    side, against one after another.
    """
    for name, value in {"epochs": epochs, "hidden": hidden, "seeds": seeds}.items():
        check_count(name, value, 1)
    shape = {"hidden": (hidden,), "latents": LATENTS, "batch_size": batch_size}
    shape |= {"binarize": "none", "epochs": epochs + 1, "decay": "constant"}
    experiment = vaegan(**shape, **GAME) if model == "vaegan" else vae(**shape)
    if seeds > 1:
        parallel.device_per_core()
        yield from study_lines(experiment, epochs, seeds)
        return
    speeds = []
    for speed in epoch_speeds(experiment, epochs):
        speeds.append(speed)
        yield f"examples_per_s {speed:.0f}"
    if model != "vae":
        return
    step = batch_size / median(speeds)
    products = product_seconds(batch_size, hidden)
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
    """Seconds of the step's matrix products alone: forward, and two for each gradient.

    The input needs no gradient, so the first layer has two products and the others
    three.
    """
    widths = [(784, hidden), (hidden, 2 * LATENTS), (LATENTS, hidden), (hidden, 784)]
    keys = iter(jax.random.split(jax.random.key(0), 3 * len(widths)))
    layers = [
        tuple(
            jax.random.normal(next(keys), s) for s in ((batch, i), (i, o), (batch, o))
        )
        for i, o in widths
    ]

    def products(scale: Array, layers: Any) -> tuple[Array, Any]:
        out = []
        for number, (x, w, dy) in enumerate(layers):
            x = x * scale  # else the loop computes it once
            out += [x @ w, x.T @ dy]
            out += [(dy * scale) @ w.T] if number else []
        return scale * 1.0000001, out

    @jax.jit
    def repeated(layers: Any) -> Any:
        def body(carry: tuple[Array, Any], _: None) -> tuple[tuple[Array, Any], None]:
            return products(carry[0], layers), None

        first = products(jnp.ones(()), layers)
        return jax.lax.scan(body, first, None, length=repeats)[0]

    return fastest(lambda: jax.block_until_ready(repeated(layers))) / repeats


def fastest(call: Callable[[], Any], tries: int = 5) -> float:
    """Least seconds of a call, after one that compiles."""
    call()
    seconds = []
    for _ in range(tries):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
