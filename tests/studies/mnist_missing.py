"""What it costs to train on images with holes: MNIST, 0, 50 and 80 % of pixels missing.

python tests/studies/mnist_missing.py [--body conv] [--epochs 60] [--rates 0 0.5]

MIWAE with 50 latents and five importance samples, of dense layers (500, 500) or of
convolutions, is trained on statically binarized MNIST (`binarized_mnist`) with pixels
missing completely at random. All are measured on the *complete* test images. An encoder
of images with holes has never seen a complete one, so its bound there says little of
p(x): each encoder is fitted anew to complete images, while the decoder stays as it is.
Resumable; figures are kept in results/mnist_missing.json, and the table of all of them
goes to results/mnist_missing.md.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

import optax
import tyro

from vaejax import evaluate, load, parallel, presets, train
from vaejax.cli.commands import keep_compiled
from vaejax.experiment import Experiment, TrainState
from vaejax.runtime.preemption import Interrupts
from vaejax.training.advance import Stepper
from vaejax.training.loop import (
    first_state,
    held_out_metrics,
    run_intervals,
    training_feed,
)
from vaejax.training.profiling import Trace
from vaejax.training.recorder import Recorder
from vaejax.training.run import Run

SAMPLES = 500
REFIT = 20  # epochs in which an encoder gets used to complete images
HOME = Path(__file__).parents[2]
RESULTS = HOME / "results" / "mnist_missing.json"
SETTINGS = {
    "dataset": "binarized_mnist",
    "likelihood": "bernoulli",
    "activation": "relu",
    "latents": 50,
    "fill": "constant",
    "samples": 5,
    "batch_size": 100,
    "decay": "cosine",
}
BODIES = {
    "mlp": {"hidden": (500, 500)},
    "conv": {"body": "conv", "channels": (32, 64), "hidden": (500,)},
}
WARM_UP = 0.2  # of all epochs, linear; without it latents are given up early


def main(
    body: Literal["mlp", "conv"] = "mlp",
    epochs: int = 100,
    rates: tuple[float, ...] = (0.0, 0.5, 0.8),
    input_dropout: float = 0.0,
) -> None:
    """Trains what is not trained yet, and writes the table of all that ever was.

    Args:
      body: networks of encoder and decoder.
      epochs: of training; encoders are fitted anew for 20.
      rates: share of the pixels that is missing.
      input_dropout: share of what is there that the encoder does not see.
    """
    keep_compiled()
    network = SETTINGS | BODIES[body]
    complete = presets.miwae(**network, epochs=REFIT)
    for rate in rates:
        settings: dict[str, Any] = network | {"epochs": epochs}
        settings |= {"schedule": "linear", "warm_up": WARM_UP * epochs}
        settings |= {"hide": "mcar", "hide_rate": rate} if rate else {}
        settings |= {"input_dropout": input_dropout} if input_dropout else {}
        name = f"{body} {epochs} {input_dropout:g} {rate:g}"
        workdir = HOME / "runs" / "mnist_missing" / name.replace(" ", "_")
        train(presets.miwae(**settings), workdir)
        for key, prepare in {"refitted": refitted, "as_trained": as_trained}.items():
            path = workdir / f"{key}.json"
            if not path.exists():
                state = prepare(complete, load(workdir)[1])
                values = evaluate(complete, state, samples=SAMPLES)
                path.write_text(json.dumps(values))
            keep(name, key, json.loads(path.read_text()))
    text = table()
    RESULTS.with_suffix(".md").write_text(text, "utf-8")
    print(text)


def keep(name: str, key: str, values: dict[str, float]) -> None:
    """Adds a figure to those that are kept."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    chosen = {metric: round(values[metric], 3) for metric in ("nll", "nll_se", "elbo")}
    known.setdefault(name, {})[key] = chosen
    RESULTS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", "utf-8")


def table() -> str:
    """Every figure that is kept, beside what its like cost on complete images."""
    known = json.loads(RESULTS.read_text())
    lines = []
    for name, found in sorted(known.items(), key=lambda item: item[0].split()):
        body, epochs, dropout, rate = name.split()
        nll = found["refitted"]["nll"]
        whole = known.get(f"{body} {epochs} {dropout} 0", {}).get("refitted")
        cells = [body, epochs, f"{float(dropout):.0%}", f"{float(rate):.0%}"]
        cells.append(f"{nll - whole['nll']:.2f}" if whole and rate != "0" else "")
        for row in (found["refitted"], found.get("as_trained")):
            cells.append(f"{row['nll']:.2f} ± {row['nll_se']:.2f}" if row else "")
            cells.append(f"{-row['elbo']:.2f}" if row else "")
        lines.append(f"| {' | '.join(cells)} |\n")
    return INTRODUCTION + "".join(lines)


def as_trained(complete: Experiment, trained: TrainState) -> TrainState:
    """The state as it is."""
    del complete  # as in `refitted`
    return trained


def refitted(complete: Experiment, trained: TrainState) -> TrainState:
    """The state whose encoder has learned complete images; its decoder is untouched."""
    player = complete.players["vae"]
    optimizer = optax.partition(
        {"encoder": player.optimizer, "decoder": optax.set_to_zero()},
        {"encoder": "encoder", "decoder": "decoder"},
    )
    player = player._replace(optimizer=optimizer)
    experiment = dataclasses.replace(complete, players={"vae": player})
    mesh = parallel.make_mesh(None, experiment.training.batch_size)
    state = first_state(experiment, mesh)._replace(params=trained.params)
    evaluate, feed = held_out_metrics(experiment, mesh), training_feed(experiment, mesh)
    with (
        Recorder(experiment, None, quiet=True) as recorder,
        Trace(None) as trace,
        Interrupts() as interrupts,
    ):
        alone = Stepper(Run(experiment, recorder), state, feed, mesh, trace)
        run_intervals(alone, experiment, 0, evaluate, interrupts)
    return alone.state


INTRODUCTION = """# MNIST with missing pixels

Made by `tests/studies/mnist_missing.py`: the same network trained on images with holes;
-log p(x) of complete test images by 500 importance samples, ± over images. Encoders
were fitted anew to complete training images for 20 epochs, the decoders left alone.
An image keeps its mask for all epochs, so what is missing is never seen. The input
dropout is the share of what is there that the encoder does not see, anew in each step;
the cost is against the same network trained on complete images.

| network | epochs | input dropout | pixels missing in training | cost, nats \
| test NLL, nats | -ELBO | NLL, encoder as trained | -ELBO |
| - | - | - | - | - | - | - | - | - |
"""


if __name__ == "__main__":
    tyro.cli(main)
