"""What streaming costs: the share of time without data, and memory over 10,000 batches.

    python tests/studies/streaming.py

Images of 64 x 64 x 3 are generated, stored as JPEG in array_record files, and stream
with random flips into a small VAE. How long a step waits depends on how fast workers
decode and how long a step takes; on a machine without accelerator both want the same
cores. So an accelerator is simulated: a step that sleeps inside its compiled program,
for times chosen such that the workers, measured alone before, decode 0.8 to 4 times
what it takes. Last, a convolutional VAE trains for real, on the cores that it shares
with the workers.
"""

import argparse
import contextlib
import dataclasses
import io
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from vaejax import Experiment, parallel, presets
from vaejax.data.batches import Batches
from vaejax.data.feed import Feed, Shuffled
from vaejax.data.streaming import as_it_is, decoded_batches, feed_of
from vaejax.reproduction.measured import (
    RESULTS,
    MeasuredTable,
    keep_measured,
    measured_here,
    print_measured,
)
from vaejax.training.advance import Stepper
from vaejax.training.loop import first_state
from vaejax.training.profiling import Trace
from vaejax.training.recorder import Recorder
from vaejax.training.run import Run

IMAGES, BATCH = 4000, 64
RATIOS = (4.0, 2.0, 1.5, 1.25, 0.8)
EVERY = 100  # steps of a call, between two looks at the memory


def picture(number: int) -> io.BytesIO:
    """Smooth colours and some noise, as JPEG at quality 90: some 2.4 kB."""
    rng = np.random.default_rng(number)
    colours = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    x = np.asarray(colours.resize((64, 64), Image.Resampling.BICUBIC), np.float64)
    x = np.clip(x + rng.normal(0, 8, x.shape), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(x).save(file, "JPEG", quality=90)
    file.seek(0)
    return file


class Pictures(tfds.core.GeneratorBasedBuilder):
    """The generated images."""

    name = "pictures"
    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = Path(__file__).parent

    def _info(self):
        image = tfds.features.Image(shape=(64, 64, 3), encoding_format="jpeg")
        features = tfds.features.FeaturesDict({"image": image})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        splits = {"train": range(IMAGES), "test": range(IMAGES, IMAGES + 100)}
        return {
            split: ((number, {"image": picture(number)}) for number in numbers)
            for split, numbers in splits.items()
        }

    def _generate_examples(self):
        raise NotImplementedError


def experiment(steps: int, **settings: Any) -> Experiment:
    """A VAE of the pictures, to be trained for at least so many steps."""
    return presets.vae(
        dataset="pictures",
        stream="yes",
        random_flip=True,
        likelihood="gaussian",
        batch_size=BATCH,
        epochs=-(-steps * BATCH // IMAGES) + 1,
        **settings,
    )


@contextlib.contextmanager
def streamed(made: Experiment, workers: int) -> Iterator[Feed]:
    """The feed of its training."""
    order = Shuffled(IMAGES, BATCH, 0)
    mesh = parallel.make_mesh(1, BATCH)
    feed = feed_of(made.dataset, "train", order, made.steps, mesh, workers, augment=0)
    try:
        yield feed
    finally:
        feed.close()


def decoding(made: Experiment, workers: int, batches: int = 100) -> float:
    """Images/s that the workers decode with nothing else to do."""
    examples, order = made.dataset.examples("train"), Shuffled(IMAGES, BATCH, 0)
    work = Batches(examples, order, np.arange(BATCH), seed=0)
    with decoded_batches(work, 0, batches + 20, workers) as found:
        for _ in range(20):
            next(found)
        began = time.perf_counter()
        for _ in range(batches):
            next(found)
        return batches * BATCH / (time.perf_counter() - began)


def asleep(seconds: float, feed: Feed) -> Feed:
    """A feed with whose batches a step lasts so much longer, without any work."""

    def sleep(index: np.ndarray) -> np.ndarray:
        time.sleep(seconds)
        return np.zeros((), np.uint8)

    def select(resident: Any, x: Any) -> Any:
        batch = as_it_is(resident, x)
        kind = jax.ShapeDtypeStruct((), jnp.uint8)
        zero = jax.pure_callback(sleep, kind, batch["index"])
        return {**batch, "x": batch["x"] + zero}

    return feed._replace(select=select)


def repeated(feed: Feed) -> Feed:
    """A feed of one batch, over and over: what a step takes where none is decoded."""
    batch = feed.take(0, 1)
    return feed._replace(take=lambda start, stop: batch, ready=lambda: True)


@dataclasses.dataclass
class Seen:
    """What a number of steps came to."""

    seconds: float
    """Of a step."""
    waiting: float
    """Share of the time for which no step ran for want of data."""
    memory: list[float]
    """MiB of this process and its workers, after each call."""


def steps_of(made: Experiment, feed: Feed, count: int, warm_up: int) -> Seen:
    """Takes `count` steps after some to warm up."""
    mesh = parallel.make_mesh(1, BATCH)
    run = Run(made, Recorder(made, None, quiet=True))
    stepper = Stepper(run, first_state(made, mesh), feed, mesh, Trace(None))
    list(stepper.advance(0, warm_up))
    began, waited, memory = time.perf_counter(), stepper.waited, []
    for start in range(warm_up, warm_up + count, EVERY):
        stop = min(start + EVERY, warm_up + count)
        list(stepper.advance(start, stop))
        memory.append(resident_memory())
    seconds = time.perf_counter() - began
    return Seen(seconds / count, (stepper.waited - waited) / seconds, memory)


def resident_memory() -> float:
    """MiB of this process and those that it started, as the kernel counts them."""
    pids = [os.getpid()]
    for task in Path("/proc/self/task").iterdir():
        pids += map(int, (task / "children").read_text().split())
    total = 0.0
    for pid in pids:
        status = Path(f"/proc/{pid}/status").read_text()
        lines = dict(line.split(":", 1) for line in status.splitlines())
        total += int(lines.get("VmRSS", "0 kB").split()[0]) / 1024
    return total


def ratios(count: int) -> MeasuredTable:
    """How much more is decoded than is taken, and what steps wait."""
    made, rows = experiment(count + 20, hidden=(8,), latents=2), []
    with streamed(made, 0) as feed:
        own = steps_of(made, repeated(feed), 100, warm_up=20).seconds
    for ratio in RATIOS:
        speed = decoding(made, 0)
        with streamed(made, 0) as feed:
            slow = asleep(max(0.0, ratio * BATCH / speed - own), feed)
            seen = steps_of(made, slow, count, warm_up=20)
        taken = BATCH / (seen.seconds * (1 - seen.waiting))
        step = f"{1000 * seen.seconds:.1f}"
        rows.append([f"{speed / taken:.2f}", f"{speed:,.0f}", step, share(seen)])
        print(*rows[-1], flush=True)
    text = (
        "A simulated accelerator: the step sleeps inside its compiled program. "
        "*Decoded / taken* is what workers decode alone, measured just before, over "
        "what steps would take if data were always there. *Waiting* is the share of "
        f"the time for which no step ran for want of data, over {count} steps."
    )
    heads = ["decoded / taken", "decoded alone, images/s", "step, ms", "waiting"]
    return MeasuredTable(heads, rows, text)


def share(seen: Seen) -> str:
    """Of the time, as a percentage."""
    return f"{seen.waiting:.1%}"


def real(count: int) -> MeasuredTable:
    """A convolutional VAE on the cores that decode, too."""
    made = experiment(count + 5, body="conv", channels=(32, 64, 128), latents=64)
    speed = decoding(made, 0)
    with streamed(made, 0) as feed:
        seen = steps_of(made, feed, count, warm_up=5)
    step, images = f"{1000 * seen.seconds:.0f}", f"{BATCH / seen.seconds:,.0f}"
    return MeasuredTable(
        ["decoded alone, images/s", "step, ms", "images/s", "waiting"],
        [[f"{speed:,.0f}", step, images, share(seen)]],
        "A convolutional VAE (32, 64, 128 channels), on the same cores:",
    )


def memory_row(batches: int, workers: int) -> list[str]:
    """Memory over many batches."""
    made = experiment(batches + 100, hidden=(8,), latents=2)
    with streamed(made, workers) as feed:
        memory = steps_of(made, feed, batches, warm_up=100).memory
    marks = [number for number in (1000, 2000, 5000, batches) if number <= batches]
    at = ", ".join(f"{memory[mark // EVERY - 1]:,.0f}" for mark in marks)
    half = memory[len(memory) // 2 :]
    slope = np.polyfit(np.arange(len(half)) * EVERY, half, 1)[0]
    name = f"{workers} processes" if workers else "threads"
    return [name, at, f"{max(half) - min(half):.1f}", f"{slope * 1000:+.2f}"]


def memory_table(batches: int) -> MeasuredTable:
    """Memory where threads decode, and where processes do."""
    heads = [
        "workers",
        "after 1,000, 2,000, 5,000 and all batches",
        "range in the second half",
        "trend for 1,000 batches",
    ]
    rows = [memory_row(batches, workers) for workers in (0, 2)]
    text = (
        "Resident memory of the run and its worker processes, in MiB, over "
        f"{batches:,} batches:"
    )
    return MeasuredTable(heads, rows, text)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batches", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TFDS_DATA_DIR"] = folder
        builder = Pictures(data_dir=folder, file_format="array_record")
        builder.download_and_prepare()
        real_steps = max(20, given.steps // 10)
        tables = [ratios(given.steps), real(real_steps), memory_table(given.batches)]
    measured = measured_here(tables, "jax")
    keep_measured(given.out, "streaming", measured)
    print_measured(measured)


if __name__ == "__main__":
    main()
