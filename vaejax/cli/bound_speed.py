"""Speed of importance-weighted training and likelihoods, at Burda's sizes.

Three programs run in turn, in changing order, so that a machine that others use does
not favour one: ours, the same by hand, and the matrix products alone.
"""

from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vaejax import parallel
from vaejax.cli.by_hand import Sizes, by_hand
from vaejax.cli.products import compile_products, products_of, wall_seconds
from vaejax.data.feed import resident_feed
from vaejax.errors import require
from vaejax.experiment import Experiment
from vaejax.metrics.evidence import CHUNK, importance_log_likelihood
from vaejax.presets import iwae
from vaejax.training.loop import first_state

LATENTS = 50
Programs = Mapping[str, Callable[[], Any]]


def burda(sizes: Sizes) -> Experiment:
    """The one-layer IWAE of [Burda et al. 2016, sec. 5], on dynamic bits."""
    return iwae(
        hidden=tuple(sizes.hidden),
        latents=sizes.latents,
        activation="tanh",
        binarize="dynamic",
        samples=sizes.samples,
        batch_size=sizes.batch,
        decay="constant",
    )


def iwae_lines(batch: int, hidden: int, samples: int, rounds: int) -> Iterator[str]:
    """Speeds of training as text: of each round an epoch, then ratios' medians."""
    sizes = Sizes((hidden, hidden), LATENTS, batch, samples)
    experiment = burda(sizes)
    steps = experiment.epoch_steps
    layers = products_of(batch, sizes.encoder(), of_data=True)
    layers += products_of(batch * samples, sizes.decoder())
    programs = {
        "ours": our_epoch(experiment),
        "by_hand": epoch_by_hand(sizes, experiment),
        "matmul": compile_products(layers, steps),
    }
    rows = []
    for row in in_turn(programs, rounds):
        rows.append(row)
        yield f"examples_per_s {steps * batch / row['ours']:.0f}"
    alone = median(row["by_hand"] for row in rows)
    yield f"examples_per_s_by_hand {steps * batch / alone:.0f}"
    yield f"times_as_fast_as_by_hand {speed_ratio(rows, 'by_hand'):.2f}"
    yield f"matmul_fraction {speed_ratio(rows, 'matmul'):.2f}"


def nll_lines(batch: int, hidden: int, samples: int, rounds: int) -> Iterator[str]:
    """Speeds of importance-sampled likelihoods as text: of each round one batch."""
    sizes = Sizes((hidden, hidden), LATENTS, batch, samples)
    rows_at_once = min(CHUNK, samples) * batch
    layers = products_of(rows_at_once, sizes.decoder(), trained=False)
    programs = {
        "ours": our_likelihoods(sizes),
        "matmul": compile_products(layers, -(-samples // CHUNK)),
    }
    rows = []
    for row in in_turn(programs, rounds):
        rows.append(row)
        yield f"image_samples_per_s {samples * batch / row['ours']:.0f}"
    yield f"matmul_fraction {speed_ratio(rows, 'matmul'):.2f}"


def speed_ratio(rows: list[dict[str, float]], other: str) -> float:
    """How many times as fast ours is as another: the median over rounds."""
    return median(row[other] / row["ours"] for row in rows)


def in_turn(programs: Programs, rounds: int) -> Iterator[dict[str, float]]:
    """Seconds of each program, round by round, after one round that compiles."""
    names = list(programs)
    for number in range(rounds + 1):
        order = names if number % 2 else names[::-1]
        found = {name: wall_seconds(programs[name]) for name in order}
        if number:
            yield found


def our_epoch(experiment: Experiment) -> Callable[[], Any]:
    """A call that trains an epoch as `train` does, further at each."""
    settings, steps = experiment.training, experiment.epoch_steps
    mesh = parallel.make_mesh(1, settings.batch_size)
    feed = resident_feed(experiment.dataset.split("train"), settings.batch_size, 0)
    resident, root = parallel.place(feed.resident, mesh), jax.random.key(0)
    held = [first_state(experiment, mesh)]
    compiled = parallel.compile_steps(experiment, feed, mesh, held[0], resident)
    xs = feed.take(0, steps)

    def call() -> Any:
        held[0], metrics, finite = compiled.advance(held[0], resident, xs, root)
        return held[0], metrics, finite

    return call


def epoch_by_hand(sizes: Sizes, experiment: Experiment) -> Callable[[], Any]:
    """A call of as many steps written by hand, further at each."""
    images = experiment.dataset.split("train")["x"]
    state, loop = by_hand(sizes, images.reshape(len(images), -1))
    held, rng = [state], np.random.default_rng(0)
    shape = experiment.epoch_steps, sizes.batch
    index = rng.integers(0, len(images), shape, np.int32)

    def call() -> Any:
        held[0], losses = loop(held[0], index)
        return held[0], losses

    return call


def our_likelihoods(sizes: Sizes) -> Callable[[], Any]:
    """A call of log p(x) of a batch of test images, by weights that do not matter."""
    experiment = burda(sizes._replace(samples=1, batch=1))
    mesh, test = parallel.make_mesh(1, 1), experiment.dataset.split("test")
    state = first_state(experiment, mesh)
    most = len(test["x"])
    require(sizes.batch <= most, "batch_size", sizes.batch, f"at most {most:,} images")
    index = jnp.arange(sizes.batch)
    raw = {"x": jnp.asarray(test["x"][: sizes.batch]), "index": index}
    batch = experiment.preprocess.apply(raw, jax.random.key(0))
    variables = {"params": state.params, **state.stats}

    @jax.jit
    def compiled(variables: Any) -> Any:
        return importance_log_likelihood(
            experiment.model, variables, batch, jax.random.key(1), sizes.samples
        )

    return lambda: compiled(variables)
