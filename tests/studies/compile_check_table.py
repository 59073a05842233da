"""The tables of `compile_check.sh`: python tests/studies/compile_check_table.py RUNS"""

import json
import sys
from pathlib import Path

from vaejax.aot.report import amount

STUDIES = ("vae_conv", "vaegan_paper", "vae_residual_large")
HEAD = """# Training steps on slices that are not here

What `scripts/compile_check.py` says of steps that XLA compiled for TPUs, with no TPU
at hand: nothing here was run or timed. Figures are of one device and one step.

| property | how it is checked | found |
|---|---|---|"""


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
    return [temporaries, needed, f"{slice_['largest']:,}"]


def row(name: str, slice_: dict) -> list[str]:
    """What is compiled, and whether it is sound."""
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
    if made is None or times is None:
        return cells + [""] * 8
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


def table(head: str, rows: list[list[str]]) -> None:
    """In Markdown."""
    print(f"| {head} |\n|{'---|' * (head.count('|') + 1)}")
    for cells in rows:
        print(f"| {' | '.join(cells)} |")


def properties(slices: list[dict]) -> list[list[str]]:
    """What should hold of every slice, and of how many it does."""
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


def main(runs: Path) -> None:
    found = {name: json.loads((runs / f"{name}.json").read_text()) for name in STUDIES}
    named = [(name, s) for name, each in found.items() for s in each["slices"]]
    print(HEAD)
    for cells in properties([slice_ for _, slice_ in named]):
        print(f"| {' | '.join(cells)} |")
    print(
        "\nA split is what a device does of the work of several, and in brackets what "
        "an even share\nwould be; the optimizer each device runs whole. The largest "
        "batch was compiled, and fits.\n"
    )
    table(
        "preset | slice | examples a device | all-reduces of gradients, players "
        "| split | donated | temporaries | needed | largest batch | verdict",
        [row(name, slice_) for name, slice_ in named],
    )
    print(
        "\nThe least time that a step can take, by the FLOPs at the chip's peak, the "
        "bytes at its\nmemory's bandwidth and what it sends over all its links; a real "
        "step takes longer.\n"
    )
    table(
        "preset | slice | FLOP | accessed | sent | compute, ms | memory, ms "
        "| network, ms | bound | examples/s at most",
        [speed(name, slice_) for name, slice_ in named],
    )
    print("\nRepeat: `tests/studies/compile_check.sh`.\n\n```")
    for name in STUDIES:
        print((runs / f"{name}.command").read_text().strip())
    print("```")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
