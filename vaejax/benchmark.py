"""How fast training is, against the matrix products that it cannot do without."""

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp

from vaejax import parallel
from vaejax.data.feed import resident_feed
from vaejax.experiment import Experiment
from vaejax.loop import first_state, train
from vaejax.presets import vae
from vaejax.types import Array
from vaejax.writer import read_rows

LATENTS = 20


def lines(batch_size: int, epochs: int, hidden: int) -> Iterator[str]:
    """Speeds as text: of each epoch, of the matrix products alone, of whole runs."""
    experiment = vae(
        binarize="none",
        hidden=(hidden,),
        latents=LATENTS,
        batch_size=batch_size,
        epochs=epochs + 1,
        decay="constant",
    )
    speeds = []
    for speed in epoch_speeds(experiment, epochs):
        speeds.append(speed)
        yield f"examples_per_s {speed:.0f}"
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
    advance = parallel.compile_steps(experiment, feed, mesh)
    state, root = first_state(experiment, mesh), jax.random.key(0)
    for epoch in range(epochs + 1):
        start = time.perf_counter()
        xs = feed.take(epoch * steps, (epoch + 1) * steps)
        state, *_ = jax.block_until_ready(advance(state, resident, xs, root))
        if epoch:
            yield steps * settings.batch_size / (time.perf_counter() - start)


def whole_run(experiment: Experiment, folder: Path) -> tuple[float, float]:
    """Examples/s of a run that keeps everything, and the share of time not in steps.

    Of three default checkpoint intervals and a half, all after the first: until then
    steps are compiled and Orbax is loaded. Evaluation is left to the end.
    """
    every = experiment.training.checkpoint_every
    epochs = -(-7 * every // 2 // experiment.epoch_steps)
    settings = dataclasses.replace(
        experiment.training, epochs=epochs, evaluate_every=epochs
    )
    experiment = dataclasses.replace(experiment, training=settings)
    train(experiment, folder, devices=1, quiet=True)
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
