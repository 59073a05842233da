"""The shape of the code, as docs/design.md quotes it:
python tests/studies/house.py --against first=933f471 before=0378710~1

Counts modules, names, functions and files of the package, its circles of imports, the
lines of the README, and the frames from the command line to a model's distributions,
which trains one step; the same of other commits, which are looked at in a folder.
"""

import argparse
import ast
import collections
import graphlib
import io
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vaejax.reproduction.measured import (
    RESULTS,
    MeasuredTable,
    keep_measured,
    measured_here,
    print_measured,
)

ROOT = Path(__file__).parents[2]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
TESTS = {"isinstance", "issubclass", "hasattr", "getattr"}


def sources(root: Path = ROOT) -> dict[str, ast.Module]:
    """Each module of a checkout's package by its dotted name."""

    def name(path: Path) -> str:
        parts = path.relative_to(root).with_suffix("").parts
        return ".".join(parts).removesuffix(".__init__")

    paths = sorted((root / "vaejax").rglob("*.py"))
    return {name(path): ast.parse(path.read_text()) for path in paths}


def lengths(tree: ast.Module) -> Iterator[int]:
    """Lines of each function's statements, its signature and docstring aside."""
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS):
            first, *rest = node.body
            told = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            inside = rest if told else node.body
            yield (inside[-1].end_lineno or 0) - inside[0].lineno + 1 if inside else 0


def twice(modules: dict[str, ast.Module]) -> dict[str, set[str]]:
    """Public names of functions and classes that several modules define."""
    found = collections.defaultdict(set)
    for module, tree in modules.items():
        for node in tree.body:
            if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and node.name[0] != "_":
                found[node.name].add(module)
    return {name: places for name, places in found.items() if len(places) > 1}


def type_tests(modules: dict[str, ast.Module]) -> list[str]:
    """Tests of a model's class or attributes outside the rooms that make models."""
    found = []
    for module, tree in modules.items():
        if module.split(".")[1:2] in (["models"], ["presets"]):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                tested = node.args and ast.unparse(node.args[0]).endswith("model")
                if node.func.id in TESTS and tested:
                    found.append(f"{module}: {ast.unparse(node)}")
    return found


def kind_tests(modules: dict[str, ast.Module]) -> list[str]:
    """Comparisons with the name of a kind of data."""
    found = []
    for module, tree in modules.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare) and ".kind" in ast.unparse(node):
                sides = [node.left, *node.comparators]
                names = {s.value for s in sides if isinstance(s, ast.Constant)}
                if names & {"image", "table"}:
                    found.append(f"{module}: {ast.unparse(node)}")
    return found


def imports(modules: dict[str, ast.Module]) -> dict[str, set[str]]:
    """The modules of the package that each module imports at its top."""
    found = {}
    for module, tree in modules.items():
        wanted = set()
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                "vaejax"
            ):
                parts = {f"{node.module}.{alias.name}" for alias in node.names}
                inner = {part for part in parts if part in modules}
                wanted |= inner or {str(node.module)}
        found[module] = wanted - {module}
    return found


def circle(modules: dict[str, ast.Module]) -> str:
    """One circle of imports, or none."""
    try:
        tuple(graphlib.TopologicalSorter(imports(modules)).static_order())
    except graphlib.CycleError as error:
        return " -> ".join(error.args[1])
    return "none"


def frames_elsewhere(root: Path) -> tuple[str, str]:
    """The frames of a checkout, counted in a process that imports its package."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("frames.py")), str(root)],
        env=os.environ | {"PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    *way, last = done.stdout.splitlines()
    print(*(line for line in way if line.startswith("  ")), sep="\n")
    inner, _, whole = last.partition("; ")
    return inner, whole


def shape(root: Path, with_frames: bool = True) -> dict[str, str]:
    """Everything that is counted of a checkout."""
    modules = sources(root)
    package = root / "vaejax"
    files = [len(p.read_text().splitlines()) for p in package.rglob("*.py")]
    functions = sorted(n for tree in modules.values() for n in lengths(tree))
    p90 = functions[int(0.9 * len(functions))]
    inner, whole = frames_elsewhere(root) if with_frames else ("", "")
    return {
        "modules at the package's root": str(len(list(package.glob("*.py")))),
        "names of functions and classes defined in several modules": str(
            len(twice(modules))
        ),
        "lines of a file: median / max": (
            f"{statistics.median(files):.0f} / {max(files)}"
        ),
        "lines of a function: median / p90 / max": (
            f"{statistics.median(functions):.0f} / {p90} / {functions[-1]}"
        ),
        "tests of a model's type outside `models/` and `presets/`": str(
            len(type_tests(modules))
        ),
        "comparisons with the name of a kind of data": str(len(kind_tests(modules))),
        "circles of imports": circle(modules),
        "frames and files from the command, `train_run`, to `infer`": inner,
        "the same from the script to the model": whole,
        "lines of README": str(len((root / "README.md").read_text().splitlines())),
    }


AIMS = {
    "modules at the package's root": "10",
    "names of functions and classes defined in several modules": "10",
    "lines of a file: median / max": "max 300",
    "lines of a function: median / p90 / max": "p90 16, max 50",
    "tests of a model's type outside `models/` and `presets/`": "0",
    "circles of imports": "none",
    "frames and files from the command, `train_run`, to `infer`": "11, 9 files",
    "lines of README": "120",
}


def shape_of_commit(commit: str, with_frames: bool) -> dict[str, str]:
    """The counts of a commit, from its files in a temporary folder."""
    packed = subprocess.run(
        ["git", "-C", str(ROOT), "archive", commit], stdout=subprocess.PIPE, check=True
    )
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
            archive.extractall(folder, filter="data")
        return shape(Path(folder).resolve(), with_frames)


def shapes_table(shapes: Mapping[str, Mapping[str, str]]) -> MeasuredTable:
    """A column for each edition, and the aims."""
    rows = [
        [name, *(each[name] for each in shapes.values()), AIMS.get(name, "")]
        for name in shapes["now"]
    ]
    return MeasuredTable(["", *shapes, "aim"], rows)


def print_names() -> None:
    """Prints what is counted of this checkout."""
    modules = sources()
    for name, places in sorted(twice(modules).items()):
        print(f"{name}: {', '.join(sorted(places))}")
    print(*type_tests(modules), *kind_tests(modules), sep="\n")


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", nargs="+", default=[], metavar="NAME=COMMIT")
    parser.add_argument("--no-frames", action="store_true", help="train nothing")
    parser.add_argument("--names", action="store_true", help="list what is counted")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(words)
    if given.names:
        print_names()
        return
    others = dict(each.split("=", 1) for each in given.against)
    shapes = {
        name: shape_of_commit(commit, not given.no_frames)
        for name, commit in others.items()
    }
    shapes["now"] = shape(ROOT, not given.no_frames)
    measured = measured_here([shapes_table(shapes)])
    keep_measured(given.out, "house", measured)
    print_measured(measured)


if __name__ == "__main__":
    main()
