"""What it costs to train on images with holes: MNIST, 0, 50 and 80 % of pixels missing.

python tests/studies/mnist_missing.py [EPOCHS]

One network (MIWAE, 784-200-200-50, five importance samples), trained on statically
binarized MNIST (`binarized_mnist`) with pixels missing completely at random. All are
measured on the *complete* test images. Resumable; the table goes to
results/mnist_missing.md.
"""

import json
import sys
from pathlib import Path

from vaejax import evaluate, load, presets, train
from vaejax.commands import keep_compiled

RATES = (0.0, 0.5, 0.8)
SAMPLES = 500
HOME = Path(__file__).parents[2]
SETTINGS = {
    "dataset": "binarized_mnist",
    "likelihood": "bernoulli",
    "activation": "tanh",
    "hidden": (200, 200),
    "latents": 50,
    "samples": 5,
    "batch_size": 100,
    "decay": "cosine",
}


def main(epochs: int) -> None:
    """Trains what is not trained yet, and writes the table."""
    keep_compiled()
    complete = presets.miwae(**SETTINGS, epochs=epochs)
    lines = []
    for rate in RATES:
        hidden = {"hide": "mcar", "hide_rate": rate} if rate else {}
        workdir = HOME / "runs" / "mnist_missing" / f"{rate:g}"
        train(presets.miwae(**SETTINGS, **hidden, epochs=epochs), workdir)
        path = workdir / "complete.json"
        if not path.exists():
            values = evaluate(complete, load(workdir)[1], samples=SAMPLES)
            path.write_text(json.dumps(values))
        found = json.loads(path.read_text())
        numbers = f"{found['nll']:.2f} ± {found['nll_se']:.2f} | {-found['elbo']:.2f}"
        lines.append(f"| {rate:.0%} | {numbers} |\n")
    head = "| pixels missing in training | test NLL, nats | -ELBO |\n| - | - | - |\n"
    text = f"{INTRODUCTION}\n{epochs} epochs.\n\n{head}{''.join(lines)}"
    (HOME / "results" / "mnist_missing.md").write_text(text, "utf-8")
    print(text)


INTRODUCTION = """# MNIST with missing pixels

Made by `tests/studies/mnist_missing.py`: the same network trained on images with holes;
-log p(x) of complete test images by 500 importance samples, ± over images.
"""


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
