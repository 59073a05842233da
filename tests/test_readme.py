"""What README promises to run, runs."""

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.test_scripts import call

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    (name, words)
    for name, words in re.findall(
        r"^python scripts/(\w+)\.py ([^#\n]*)", README, re.MULTILINE
    )
    # Several hosts are for `test_hosts`, absent TPUs for `test_compile_check`.
    if "--distributed" not in words and "--topology" not in words
]


def test_what_contributing_works_out_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile("\n".join(blocks), "CONTRIBUTING.md", "exec"), {})


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_python_blocks_run(block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})


def test_commands_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    """As they stand, but for a small set, two epochs and few samples."""
    monkeypatch.chdir(tmp_path)
    small = {
        "train": ["--dataset", "digits", "--epochs", "2", "--devices", "1"],
        "evaluate": ["--samples", "5", "--num", "100"],
        "study": ["--dataset", "digits", "--epochs", "2", "--hidden", "16"],
    }
    assert [name for name, _ in COMMANDS] == [
        *("train", "train", "train", "evaluate", "sample", "plot"),
        *("train", "sample", "train", "evaluate", "plot", "report"),
        *("train", "impute", "train", "plot", "study", "export"),
        "train",
    ]
    rng = np.random.default_rng(0)
    table = np.where(rng.random((100, 3)) < 0.3, np.nan, rng.normal(size=(100, 3)))
    pd.DataFrame(table, columns=list("abc")).to_csv("data.csv", index=False)
    for name, words in COMMANDS:
        given = shlex.split(words)
        if "--help" in given:
            try:
                call(name, *given)
            except SystemExit as stop:
                assert not stop.code
        else:
            extra = small.get(name, [])
            call(name, *given, *(extra[2:] if "--dataset" in given else extra))
    assert (tmp_path / "samples.png").exists()
    assert (tmp_path / "filled-20.csv").exists()
    assert (tmp_path / "exported" / "load.py").exists()
    assert (tmp_path / "runs" / "a" / "plots" / "latents.png").exists()


def test_the_table_of_presets_is_complete():
    from vaejax.presets import PRESETS

    assert re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE) == list(PRESETS)
