"""Training steps compiled for slices that are not here:
python tests/studies/compile_check.py [ROW] [RUNS]

The row compile_check has three presets on three slices of TPUs, compile_check_published
large models with their published sizes, on cards of NVIDIA, too, and compile_check_v5p
the largest of them on a third slice. Needs libtpu (pip install 'vaejax[aot]') and XLA
for CUDA, which compile_check.py names, and no TPU or card. The last takes an hour on
two cores, the others two hours or more; the same command again leaves out what is
there.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vaejax.aot.report import amount
from vaejax.reproduction.measured import (
    RESULTS,
    MeasuredTable,
    keep_measured,
    measured_here,
    print_measured,
)

CHECK = Path(__file__).parents[2] / "scripts" / "compile_check.py"


class Study(NamedTuple):
    """Words of a command that compiles a preset, and the slices it is compiled for."""

    words: str
    slices: tuple[str, ...] = ("v5e:2x4", "v5e:16x16", "v5p:4x4x4")


# Data sets are as large as those that the models are of; none need be here.
F8 = (
    "autoencoder_kl --images 1281167x256x256x3 --width 128 --multipliers 1 2 4 4 "
    "--blocks 2 --critic-channels 64 --critic-start 50001 --critic-warm-up 0 "
    "--adversarial-weight 0.5 --precision bf16 --remat --batch-size 64 --encode 32"
)
ROWS = {
    "compile_check": {
        "vae_conv": Study("vae_conv --images 60000x28x28x1 --batch-size 2048"),
        "vaegan_paper": Study("vaegan_paper --images 162770x64x64x3 --batch-size 2048"),
        "vae_residual_large": Study(
            "vae_residual_large --images 1281167x64x64x3 --batch-size 2048"
        ),
    },
    "compile_check_published": {
        "autoencoder_kl_f8": Study(F8, ("v5e:4x4", "h100:8")),
        "vdvae_cifar10": Study(
            "vdvae_cifar10 --images 50000x32x32x3 --validation 0 --scan --remat "
            "--tries 0",
            ("v5e:4x4", "h100:8"),
        ),
        "vdvae_mnist": Study(
            "vdvae_mnist --images 60000x28x28x1 --tries 0", ("v5e:4x4", "h100:8")
        ),
    },
    "compile_check_v5p": {
        "autoencoder_kl_f8": Study(f"{F8} --tries 1", ("v5p:2x2x1",)),
    },
}


def checked(name: str, study: Study, runs: Path, kept: bool = False) -> list[dict]:
    """The figures of a study on each slice, compiled where they are not there.

    With `kept`, of those that are there alone.
    """
    found = []
    for place in study.slices:
        path = runs / f"{name}-{place.replace(':', '-')}.json"
        if kept and not path.exists():
            continue
        if not path.exists():
            words = [*study.words.split(), "--topology", place, "--json", str(path)]
            # A slice that fails its check makes it exit with 1; the table says so.
            done = subprocess.run([sys.executable, str(CHECK), *words])
            if not path.exists():
                raise RuntimeError(f"{name} was not compiled: exit {done.returncode}")
        found += json.loads(path.read_text())["slices"]
    return found


def sums(slice_: dict) -> str:
    """All-reduces of gradients."""
    found = slice_["gradients"]
    return f"{len(found)} ({amount(sum(found))}), {slice_['players']}"


def memory(slice_: dict) -> list[str]:
    """Temporaries, all that is needed, and the batch that fits."""
    made, (first, *_) = slice_["program"], slice_["needs"]
    temporaries = amount(made["memory"]["temporaries"]) if made else ""
    needed = f"{amount(first['needed'])} of {amount(slice_['place']['chip']['memory'])}"
    if not first["fits"]:
        needed += ": does not fit"
    searched = len(slice_["needs"]) > 1
    return [temporaries, needed, f"{slice_['largest']:,}" if searched else "not sought"]


def row(name: str, slice_: dict) -> list[str]:
    """Sizes and verdict of each compiled step."""
    made, share = slice_["program"], slice_["share"]
    batch, devices = slice_["batch"], slice_["place"]["devices"]
    cells = [f"`{name}`", slice_["place"]["name"], f"{batch // devices}"]
    if made is None:
        cells += [""] * 3
    else:
        split = f"{share[0]:.4f} ({share[1]:.4f})" if share else "not compared"
        donated = (
            f"{slice_['donated'] / slice_['state']:.0%} of {amount(slice_['state'])}"
        )
        cells += [sums(slice_), split, donated]
    return [*cells, *memory(slice_), "; ".join(slice_["problems"]) or "sound"]


def speed(name: str, slice_: dict) -> list[str]:
    """The roofline's times."""
    made, times = slice_["program"], slice_["times"]
    cells = [f"`{name}`", slice_["place"]["name"]]
    seconds = max(times[part] for part in ("compute", "memory", "network"))
    each = [f"{1e3 * times[part]:.3g}" for part in ("compute", "memory", "network")]
    per_second = slice_["batch"] / seconds
    return [
        *cells,
        f"{made['flops']:.3g}",
        amount(made["accessed"]),
        amount(made["sent"]),
        *each,
        times["bound"],
        f"{per_second:.3g}",
    ]


def encoded(name: str, slice_: dict) -> list[str]:
    """Memory, least time and speed of encoding on each device."""
    found = slice_["encoding"]
    cells = [f"`{name}`", slice_["place"]["name"], f"{found['examples']}"]
    cells += [amount(found["needed"])]
    if found["times"] is None:
        return cells + [""] * 5
    times, chips = found["times"], slice_["place"]["devices"]
    parts = [f"{1e3 * times[part]:.3g}" for part in ("compute", "memory")]
    speed = found["speed"]
    return [*cells, *parts, times["bound"], f"{speed:.3g}", f"{chips * speed:.3g}"]


def properties(slices: list[dict]) -> list[list[str]]:
    """The properties that every slice should have, and how many have them."""
    made = [s for s in slices if s["program"]]

    def count(holds: list[bool]) -> str:
        return f"{sum(holds)} of {len(holds)}"

    return [
        [
            "gradients cross in at most 2 all-reduces for each player",
            "those that carry an array as large as a weight matrix",
            count([len(s["gradients"]) <= 2 * s["players"] for s in made]),
        ],
        [
            "the data is split",
            "FLOPs against those of several devices' batches on one device",
            count(
                [s["share"][0] < (1 + s["share"][1]) / 2 for s in made if s["share"]]
            ),
        ],
        [
            "the state is donated",
            "every array of it has its place in the results",
            count([s["donated"] == s["state"] for s in made]),
        ],
        [
            "the batch fits",
            "the compiler's own count, or its error",
            count([s["needs"][0]["fits"] for s in slices]),
        ],
    ]


PROPERTIES = "property | how it is checked | found"
COMPILED = (
    "preset | slice | examples a device | all-reduces of gradients, players | split "
    "| donated | temporaries | needed | largest batch | verdict"
)
ROOFLINE = (
    "preset | slice | FLOP | accessed | sent | compute, ms | memory, ms | network, ms "
    "| bound | examples/s at most"
)
ENCODED = (
    "preset | slice | examples at once | needed | compute, ms | memory, ms | bound "
    "| examples/s of a device at most | of the slice"
)


def tables(found: dict[str, list[dict]]) -> list[MeasuredTable]:
    """Properties, what was compiled, and the roofline's times."""
    named = [(name, each) for name, slices in found.items() for each in slices]
    compiled = (
        "A split is what a device does of the work of several, and in brackets what an "
        "even share would be; the optimizer each device runs whole. The largest batch "
        "was compiled, and fits."
    )
    least = (
        "The least time that a step can take, by the FLOPs at the chip's peak, the "
        "bytes at its memory's bandwidth and what it sends over all its links; a real "
        "step takes longer. XLA counts no FLOPs for cards of NVIDIA."
    )
    rows = {
        PROPERTIES: (properties([each for _, each in named]), ""),
        COMPILED: ([row(*each) for each in named], compiled),
        ROOFLINE: ([speed(*each) for each in named if each[1]["times"]], least),
    }
    if encodings := [each for each in named if "encoding" in each[1]]:
        told = (
            "Bulk encoding by `encode.py`, each device for itself: in float32, which a "
            "TPU computes in six passes, so that products take six times as long."
        )
        rows[ENCODED] = ([encoded(*each) for each in encodings], told)
    return [MeasuredTable(head.split(" | "), *rest) for head, rest in rows.items()]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("row", nargs="?", choices=ROWS, default="compile_check")
    parser.add_argument(
        "runs", type=Path, nargs="?", default=Path("runs/compile_check")
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--kept", action="store_true", help="compile nothing more")
    given = parser.parse_args(words)
    given.runs.mkdir(parents=True, exist_ok=True)
    found = {
        name: checked(name, study, given.runs, given.kept)
        for name, study in ROWS[given.row].items()
    }
    measured = measured_here(tables(found), "jax")
    keep_measured(given.out, given.row, measured)
    print_measured(measured)


if __name__ == "__main__":
    main()
