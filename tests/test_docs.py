"""What README and the documentation show, runs.

The blocks of a page run one after the other in one empty folder: those of Python in one
namespace, scripts in this process, on a small set and for two epochs. What cannot run
here has its flags checked.
"""

import importlib.util
import re
import subprocess

import jax
import numpy as np
import pandas as pd
import pytest

from tests.pages import PAGES, ROOT, Block, blocks, found, read, script_of
from tests.test_scripts import call
from vaejax.cli import commands

SHOWN = {"text", "bibtex", "yaml", "csv", "json", "toml"}
RUN = {"python", "bash", ""}  # without a language: commands
ELSEWHERE = {"docs/clusters.md": "tests/test_clusters.py"}
"""Pages whose blocks another file tests."""

# Several hosts are for `test_hosts`, absent TPUs for `test_compile_check`.
NOT_HERE = ("--distributed", "--coordinator", "--topology", "--profile")
LOCAL = ("digits", "sprites/", "breast_cancer", "npz:", "csv:", "folder:", "hf:")
LOCAL += ("latents:",)
SMALL = {
    "train": ["--epochs", "2", "--devices", "1"],
    "evaluate": ["--samples", "5", "--num", "100"],
    "study": ["--epochs", "2", "--hidden", "16"],
    "benchmark": ["--epochs", "1", "--hidden", "8", "--batch-size", "500"],
}
# What is not ours, or installs: known, and left alone.
KNOWN = re.compile(
    r"(cd|export|source|ls|cat|mkdir|kill|pip install|git clone|jupyter|tensorboard"
    r"|xprof|gcloud|gsutil|ssh|scp|python3? -m (venv|http\.server)|python \w+\.py)\b"
    r"|\w+=|nohup |exit$|\. "
)
# A report takes longer than such a run; this page is about one.
WITH_REPORTS = {"docs/howto/numbers.md"}
TESTED = [page for page in PAGES if blocks(page) and page not in ELSEWHERE]


@pytest.mark.slow
@pytest.mark.parametrize("page", TESTED)
def test_a_page_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if page not in WITH_REPORTS:
        monkeypatch.setattr(commands, "try_report", lambda *run: None)
    if page == "docs/cli.md":
        write_table()
    names: dict = {"__name__": "__main__"}
    for block in blocks(page):
        if block.language == "python" and not block.not_run:
            run_python(page, block, names)
        elif block.language == "python":
            compile(block.text, page, "exec")
        elif block.language in RUN:
            for command in block.commands:
                run_command(command, block, capsys)
    if page == "docs/cli.md":
        for path in ("samples.png", "filled-20.csv", "exported/load.py"):
            assert (tmp_path / path).exists()


def write_table():
    """The user's table that the page speaks of."""
    rng = np.random.default_rng(0)
    table = np.where(rng.random((100, 3)) < 0.3, np.nan, rng.normal(size=(100, 3)))
    pd.DataFrame(table, columns=list("abc")).to_csv("data.csv", index=False)


def run_python(page, block, names):
    """Executes a block; a traceback names the line of the page.

    A reader's JAX promotes ranks, where that of the tests refuses to.
    """
    text = "\n" * block.line + block.text
    with jax.numpy_rank_promotion("allow"):
        exec(compile(text, str(ROOT / page), "exec"), names)


def run_command(command, block, capsys):
    """Runs a line of a shell, or checks it where it is not for this machine."""
    if script := script_of(command):
        name, words = script
        if block.not_run or any(flag in words for flag in NOT_HERE):
            check_flags(name, words, capsys)
        else:
            run_script(name, words)
    elif "tpu_vm.sh" in command:
        check_shell(command)
        check_options(command)
    elif targets := re.match(r"make\b(.*)", command):
        check_make(targets[1].split())
    else:
        assert block.not_run or KNOWN.match(command), f"nobody runs: {command}"
        check_shell(block.text)


def run_script(name, words):
    """As it stands, but for a small set, two epochs and few samples."""
    if "--help" in words:
        try:
            call(name, *words)
        except SystemExit as stop:
            assert not stop.code
        return
    words = words + SMALL.get(name, [])
    if name in ("train", "study"):
        if "--dataset" not in words:
            words = [*words, "--dataset", "digits"]
        place = words.index("--dataset") + 1
        if not words[place].startswith(LOCAL):
            words[place] = "digits"
    call(name, *words)


def check_flags(name, words, capsys):
    """All flags are those of the script, or of its preset."""
    preset = words[:1] if name in ("train", "study", "compile_check") else []
    capsys.readouterr()
    with pytest.raises(SystemExit):
        call(name, *preset, "--help")
    known = set(re.findall(r"--[a-z][a-z0-9-]*", capsys.readouterr().out))
    given = {w.partition("=")[0] for w in words if re.match(r"--[a-z]", w)}
    assert given <= known, f"{name} has no {given - known}"


def check_options(command):
    """All options are those of the TPU script."""
    help_ = (ROOT / "scripts" / "tpu_vm.sh").read_text()
    for option in re.findall(r"--[a-z][a-z-]*", command.partition(" -- ")[0]):
        assert re.search(rf"{option}\b", help_), f"tpu_vm.sh has no {option}"


def check_make(words):
    """All targets are there."""
    made = re.findall(r"^(\w+):", read("Makefile"), re.MULTILINE)
    for word in words:
        assert "=" in word or word in made, f"make has no target {word}"


def check_shell(text):
    """It parses."""
    subprocess.run(["bash", "-n", "-c", text], check=True)


@pytest.mark.parametrize("page", PAGES)
def test_blocks_are_of_languages_that_somebody_runs(page):
    for block in blocks(page):
        assert block.language in RUN | SHOWN, f"{page}:{block.line}: {block.language}"
        if block.not_run:
            assert block.language in RUN, f"{page}:{block.line} is not run anyway"


@pytest.mark.parametrize("page", PAGES)
def test_no_command_is_overlooked(page):
    """Every script that a page's commands name is one that is run or checked."""
    shell = [block for block in blocks(page) if block.language in ("bash", "")]
    named = sum(block.text.count("scripts/") for block in shell)
    commands = [command for block in shell for command in block.commands]
    if page in ELSEWHERE:
        assert (ROOT / ELSEWHERE[page]).exists()
    else:
        assert named == sum("scripts/" in command for command in commands)
        for command in commands:
            assert (
                "scripts/" not in command or script_of(command) or "tpu_vm" in command
            )


def test_blocks_are_found_within_lists_and_with_their_reasons():
    text = (
        "1. a\n\n   ```bash\n   cd b \\\n     c  # d\n   ```\n\n<!-- not run: e -->\n"
    )
    text += "```python\nf()\n```\n\n```\nmake\n```\n"
    first, second, third = found(text)
    assert (first.language, first.commands) == ("bash", ["cd b c"])
    assert second == Block("python", "f()\n", 9, "e")
    assert third.language == third.not_run == ""


def test_what_nobody_runs_is_refused(capsys):
    for command in ("frobnicate a", "make nothing", "python scripts/nothing.py"):
        with pytest.raises((AssertionError, ModuleNotFoundError)):
            run_command(command, Block("bash", command, 1), capsys)
    with pytest.raises(AssertionError, match="--lattents"):
        check_flags("train", ["vae", "--lattents", "3"], capsys)


def test_the_reference_and_the_lists_of_presets_are_of_this_code(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    specification = importlib.util.spec_from_file_location(
        "make_reference", ROOT / "docs" / "make_reference.py"
    )
    maker = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(maker)
    for path, text in maker.pages().items():
        assert read(path) == text, f"{path}: run python docs/make_reference.py"
