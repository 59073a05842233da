"""The shape of the code, as docs/design.md quotes it: python tests/studies/house.py

Counts modules, names, functions and files of the package, its circles of imports, and
the words and lines of the README. `--frames` also counts the frames from the command
line to a model's distributions, which trains one step.
"""

import argparse
import ast
import collections
import graphlib
import runpy
import statistics
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "vaejax"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
TESTS = {"isinstance", "issubclass", "hasattr", "getattr"}


def sources() -> dict[str, ast.Module]:
    """Each module of the package by its dotted name."""

    def name(path: Path) -> str:
        parts = path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts).removesuffix(".__init__")

    paths = sorted(PACKAGE.rglob("*.py"))
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


def frames() -> str:
    """Frames and files of this repository from the command to a model's `posterior`."""
    from vaejax.models import VAE

    seen: list[traceback.StackSummary] = []
    posterior = VAE.posterior

    def noted(self, batch):
        seen.append(traceback.extract_stack())
        return posterior(self, batch)

    VAE.posterior = noted
    small = ["--dataset", "digits", "--epochs", "1", "--devices", "1"]
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = ["train.py", "vae", *small, "--workdir", f"{folder}/run"]
        runpy.run_path(str(ROOT / "scripts" / "train.py"), run_name="__main__")
    ours = (str(PACKAGE), str(ROOT / "scripts"))
    paths = [[f for f in stack if f.filename.startswith(ours)] for stack in seen]
    steps = [path for path in paths if any(f.name == "train_step" for f in path)]
    longest = max(steps, key=len)
    for frame in longest:
        print(f"  {Path(frame.filename).relative_to(ROOT)}: {frame.name}")
    command = next(n for n, f in enumerate(longest) if f.name == "train_run")
    infer = next(n for n, f in enumerate(longest) if f.name == "infer")
    return f"{counted(longest[command : infer + 1])}; all: {counted(longest)}"


def counted(frames: list[traceback.FrameSummary]) -> str:
    return f"{len(frames)} frames, {len({f.filename for f in frames})} files"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", action="store_true", help="list what is counted")
    parser.add_argument("--frames", action="store_true", help="train, and count frames")
    given = parser.parse_args()
    modules = sources()
    files = [len(p.read_text().splitlines()) for p in PACKAGE.rglob("*.py")]
    functions = sorted(n for tree in modules.values() for n in lengths(tree))
    doubled, tested, compared = twice(modules), type_tests(modules), kind_tests(modules)
    readme = (ROOT / "README.md").read_text()
    rows = {
        "modules at the root": len(list(PACKAGE.glob("*.py"))),
        "files: median / max lines": f"{statistics.median(files):.0f} / {max(files)}",
        "functions: median / p90 / max lines": (
            f"{statistics.median(functions):.0f} / "
            f"{functions[int(0.9 * len(functions))]} / {functions[-1]}"
        ),
        "names defined in several modules": len(doubled),
        "tests of a model's type outside models and presets": len(tested),
        "comparisons with the name of a kind of data": len(compared),
        "circle of imports": circle(modules),
        "README: lines / words": f"{len(readme.splitlines())} / {len(readme.split())}",
    }
    if given.frames:
        rows["from the command train_run to infer"] = frames()
    for name, value in rows.items():
        print(f"| {name} | {value} |")
    if given.names:
        for name, places in sorted(doubled.items()):
            print(f"{name}: {', '.join(sorted(places))}")
        print(*tested, *compared, sep="\n")


if __name__ == "__main__":
    main()
