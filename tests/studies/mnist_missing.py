"""What it costs to train on images with holes: MNIST, 0, 50 and 80 % of pixels missing.

python tests/studies/mnist_missing.py [EPOCHS [RATE ...]]

One network (MIWAE, 784-500-500-50, five importance samples), trained on statically
binarized MNIST (`binarized_mnist`) with pixels missing completely at random. All are
measured on the *complete* test images. An encoder of images with holes has never seen a
complete one, so its bound there says little of p(x): each encoder is fitted anew to
complete images, while the decoder stays as it is. Resumable; the table goes to
results/mnist_missing.md.
"""

import dataclasses
import json
import sys
from pathlib import Path

import optax

from vaejax import evaluate, load, parallel, presets, train
from vaejax.commands import keep_compiled
from vaejax.experiment import Experiment, TrainState
from vaejax.interrupt import Interrupts
from vaejax.keeper import Keeper
from vaejax.loop import first_state, run

RATES = (0.0, 0.5, 0.8)
SAMPLES = 500
REFIT = 20  # epochs in which an encoder gets used to complete images
HOME = Path(__file__).parents[2]
SETTINGS = {
    "dataset": "binarized_mnist",
    "likelihood": "bernoulli",
    "activation": "relu",
    "hidden": (500, 500),
    "latents": 50,
    "fill": "constant",
    "samples": 5,
    "batch_size": 100,
    "decay": "cosine",
}
WARM_UP = {"schedule": "linear", "warm_up": 20.0}  # else latents are given up early


def main(epochs: int, rates: tuple[float, ...]) -> None:
    """Trains what is not trained yet, and writes the table of these rates."""
    keep_compiled()
    complete = presets.miwae(**SETTINGS, epochs=REFIT)
    lines = []
    for rate in rates:
        hidden = {"hide": "mcar", "hide_rate": rate} if rate else {}
        workdir = HOME / "runs" / "mnist_missing" / f"{rate:g}"
        train(presets.miwae(**SETTINGS, **WARM_UP, **hidden, epochs=epochs), workdir)
        cells = [f"{rate:.0%}"]
        for name, prepare in {"refitted": refitted, "complete": as_trained}.items():
            path = workdir / f"{name}.json"
            if not path.exists():
                state = prepare(complete, load(workdir)[1])
                values = evaluate(complete, state, samples=SAMPLES)
                path.write_text(json.dumps(values))
            found = json.loads(path.read_text())
            cells.append(f"{found['nll']:.2f} ± {found['nll_se']:.2f}")
            cells.append(f"{-found['elbo']:.2f}")
        lines.append(f"| {' | '.join(cells)} |\n")
    head = (
        "| pixels missing in training | test NLL, nats | -ELBO "
        "| NLL, encoder as trained | -ELBO |\n| - | - | - | - | - |\n"
    )
    text = f"{INTRODUCTION}\n{epochs} epochs.\n\n{head}{''.join(lines)}"
    (HOME / "results" / "mnist_missing.md").write_text(text, "utf-8")
    print(text)


def as_trained(complete: Experiment, trained: TrainState) -> TrainState:
    """The state as it is."""
    del complete  # as in `refitted`
    return trained


def refitted(complete: Experiment, trained: TrainState) -> TrainState:
    """The state whose encoder has learned complete images; its decoder is untouched."""
    player = complete.players["vae"]
    moves = {"fit": player.optimizer, "keep": optax.set_to_zero()}
    optimizer = optax.multi_transform(moves, {"encoder": "fit", "decoder": "keep"})
    player = player._replace(optimizer=optimizer)
    experiment = dataclasses.replace(complete, players={"vae": player})
    mesh = parallel.make_mesh(None, experiment.training.batch_size)
    with Keeper(experiment, None, quiet=True) as keeper, Interrupts() as interrupts:
        state = first_state(experiment, mesh)._replace(params=trained.params)
        return run(experiment, mesh, state, keeper, interrupts)


INTRODUCTION = """# MNIST with missing pixels

Made by `tests/studies/mnist_missing.py`: the same network trained on images with holes;
-log p(x) of complete test images by 500 importance samples, ± over images. Encoders
were fitted anew to complete training images for 20 epochs, the decoders left alone.
An image keeps its mask for all epochs, so what is missing is never seen.
"""


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 100,
        tuple(map(float, sys.argv[2:])) or RATES,
    )
