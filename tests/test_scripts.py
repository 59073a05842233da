"""The command line as its user meets it: help, results, and one line for bad input."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.npz import read_npz
from vaejax import load, presets, train
from vaejax.cli import benchmark
from vaejax.cli import main as command

SCRIPTS = Path(__file__).parents[1] / "scripts"
TINY = "--dataset digits --hidden 16 --latents 2 --epochs 2 --batch-size 96"


def call(name, *words):
    """Runs a script's command line in this process; SystemExit where it exits."""
    program = importlib.import_module(f"vaejax.cli.programs.{name}")
    # compile_check turns the cache off, which the tests that follow want on.
    cached = jax.config.jax_enable_compilation_cache
    try:
        program.run([str(word) for word in words])
    finally:
        jax.config.update("jax_enable_compilation_cache", cached)


def refused(capsys, name, *words):
    """The one line that a refused command line prints, without its `error: `."""
    with pytest.raises(SystemExit) as stop:
        call(name, *words)
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err
    return said.err.strip()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripts") / "run"
    tiny = {"dataset": "digits", "hidden": (16,), "latents": 2}
    train(presets.vae(**tiny, epochs=2, batch_size=96), folder, quiet=True)
    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripts") / "table"
    experiment = presets.pca(dataset="breast_cancer", latents=2, epochs=1)
    train(experiment, folder, quiet=True)
    return folder


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """Files that a user may give by mistake."""
    folder = tmp_path_factory.mktemp("arrays")
    images = np.zeros((20, 4, 4), np.uint8)
    numbers = np.random.default_rng(0).normal(size=(20, 3))
    broken = {
        "wrong_key": {"images": images},
        "rank_1": {"x_train": numbers[:, 0]},
        "inf": {"x_train": np.where(numbers > 2, np.inf, numbers) + [np.inf, 0, 0]},
        "nan": {"x_train": numbers + [np.nan, 0, 0]},
        "objects": {"x_train": np.array([{}, {}], object)},
        "empty": {"x_train": images[:0]},
        "labels": {"x_train": images, "y_train": np.zeros(3, int)},
        "numbers": {"x_train": numbers},
    }
    for name, content in broken.items():
        np.savez(folder / f"{name}.npz", **content)
    (folder / "text.npz").write_text("no zip")
    return folder


BAD_SETTINGS = [
    ("vea", "did you mean vae"),
    ("vae --latent 3", "did you mean --latents"),
    ("vae --latents x", "--latents"),
    ("vae --latents 0", "--latents is 0: it must be at least 1"),
    ("vae --hidden 0", "--hidden"),
    ("vae --sigma 0", "--sigma"),
    ("vae --beta -1", "--beta is -1.0: it must be at least 0"),
    ("vae --free-bits -1", "--free-bits"),
    ("vae --schedule linear", "--warm-up"),
    ("vae --schedule sawtooth", "'linear'"),
    ("vae --body cnn", "'conv'"),
    ("vae --epochs 0", "--epochs is 0"),
    ("vae --learning-rate 0", "--learning-rate is 0.0: it must be above 0"),
    ("vae --ema 1", "--ema is 1.0: it must be in [0, 1)"),
    ("vae --validation 1", "validation"),
    ("vae --batch-size 5000", "has 1438 examples"),
    pytest.param("vae --devices 9", "this host has 1 to 8", marks=pytest.mark.devices),
    pytest.param(
        "vae --devices 3 --batch-size 100",
        "does not divide over 3 devices",
        marks=pytest.mark.devices,
    ),
    ("vae --likelihood categorical --binarize dynamic", "does not fit binary data"),
    ("vae --dataset breast_cancer --likelihood bernoulli", "does not fit real data"),
    ("vae --dataset breast_cancer --body conv", "needs images"),
    ("vae --dataset digit", "did you mean digits"),
    ("vae --dataset npz:{arrays}/missing.npz", "missing.npz"),
    ("vae --dataset npz:{arrays}/text.npz", "text.npz"),
    ("vae --dataset npz:{arrays}/wrong_key.npz", "x_train"),
    ("vae --dataset npz:{arrays}/rank_1.npz", "(20,)"),
    ("vae --dataset npz:{arrays}/inf.npz", "inf"),
    ("vae --dataset npz:{arrays}/nan.npz", "no entry of column 0"),
    ("vae --dataset npz:{arrays}/objects.npz", "object"),
    ("vae --dataset npz:{arrays}/empty.npz", "empty"),
    ("vae --dataset npz:{arrays}/labels.npz", "y_train"),
    ("vae --patience 3", "--validation"),
    ("gan --validation 0.2 --patience 3", "nothing to go by"),
    ("gan --critic-norm batch", "choose another norm"),
    ("gan --critic-moves 0", "--critic-moves is 0: it must be at least 1"),
    ("vaegan --layer 9", "--layer 9: the critic has layers 0 to 2"),
    ("vae --workdir {file}", "is a file"),
    ("vae --workdir {file}/below", "cannot create"),
    ("vae --workdir {other}", "is not a run"),
    ("vae --workdir {newer}", "newer vaejax"),
    ("vae --workdir {damaged}", "not JSON"),
    ("vae --workdir {run} --latents 3 --hidden 16", "latents 2 (here 3)"),
]


@pytest.fixture(scope="module")
def places(run, arrays, tmp_path_factory):
    """Workdirs that are none."""
    folder = tmp_path_factory.mktemp("places")
    (folder / "file").write_text("a file")
    contents = {"other": None, "newer": '{"format": 99}', "damaged": '{"format"'}
    for name, config in contents.items():
        (folder / name).mkdir()
        (folder / name / "notes.txt").write_text("mine")
        if config:
            (folder / name / "config.json").write_text(config)
    names = ("file", *contents)
    return {"run": run, "arrays": arrays} | {n: folder / n for n in names}


@pytest.mark.parametrize(("words", "said"), BAD_SETTINGS)
def test_bad_settings_get_one_line(capsys, places, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    given = words.format(**places).split()
    if "--dataset" not in given:
        given += ["--dataset", "digits"]
    assert said in refused(capsys, "train", *given)
    assert not (tmp_path / "runs").exists() or words == "vae --patience 3"


BAD_USES = [
    ("evaluate {file}", "is a file"),
    ("evaluate {other}", "is not a run"),
    ("evaluate {newer}", "newer vaejax"),
    ("evaluate {run} --split validation", "test"),
    ("evaluate {run} --samples -1", "--samples"),
    ("evaluate {run} --batch-size 0", "--batch-size"),
    ("evaluate {run} --sample 3", "--samples"),
    ("evaluate", "WORKDIR"),
    ("sample {run} --num 0", "--num"),
    ("sample {run} --out x.jpg", "give --out a name ending in .png or .npz"),
    ("sample {other}", "is not a run"),
    ("sample {run} --label 3", "is not conditioned on labels"),
    ("sample {run} --label 10", "the classes are 0 to 9"),
    ("sample {table} --out x.png", ".npz"),
]


@pytest.mark.parametrize(("words", "said"), BAD_USES)
def test_bad_uses_get_one_line(capsys, places, table, words, said):
    name, *given = words.format(table=table, **places).split()
    assert said.lower() in refused(capsys, name, *given).lower()


def test_a_run_without_a_checkpoint_cannot_be_loaded(capsys, run, tmp_path):
    (tmp_path / "config.json").write_text((run / "config.json").read_text())
    assert "no checkpoint yet" in refused(capsys, "evaluate", tmp_path)


def test_help_lists_presets_with_a_line_each(capsys):
    call("train", "--help")
    said = capsys.readouterr().out
    for name in presets.PRESETS:
        assert f"\n  {name} " in said
    assert "[Kingma & Welling 2014]" in said


@pytest.mark.parametrize("name", presets.PRESETS)
def test_help_of_a_preset_says_what_each_setting_means(capsys, name):
    with pytest.raises(SystemExit) as stop:
        call("train", name, "--help")
    assert not stop.value.code
    said = capsys.readouterr().out
    for flag in ("--dataset", "--epochs", "--workdir", "Passes over the training"):
        assert flag in said


def test_evaluation_prints_a_table_and_writes_it(capsys, run):
    call("evaluate", run, "--samples", 7)
    said = capsys.readouterr().out
    written = json.loads((run / "evaluation.json").read_text())
    assert written["examples"] == 359
    assert written["samples"] == 7
    assert {"elbo", "nll", "nll_se", "bits_per_dim", "active_units"} <= written.keys()
    assert f"{-written['elbo']:.2f}" in said


def test_evaluation_repeats(run):
    values = []
    for _ in range(2):
        call("evaluate", run, "--samples", 3)
        values.append((run / "evaluation.json").read_text())
    assert values[0] == values[1]


def test_samples_come_in_the_units_and_shape_of_the_data(run, table, tmp_path):
    call("sample", run, "--num", 5, "--out", tmp_path / "x.npz")
    x = read_npz(tmp_path / "x.npz")["x"]
    assert x.shape == (5, 8, 8, 1)
    assert x.dtype == np.uint8
    assert x.max() > 1
    call("sample", table, "--num", 300, "--out", tmp_path / "t.npz", "--noise")
    x = read_npz(tmp_path / "t.npz")["x"]
    experiment, _ = load(table)
    assert x.shape == (300, 30)
    # Columns differ by four orders of magnitude: standardized samples would not.
    spec = experiment.dataset.spec
    mean, scale = np.array(spec.mean), np.array(spec.scale)
    assert (np.abs(x.mean(0) - mean) < 2 * scale).all()


def test_a_picture_of_samples(run, tmp_path):
    call("sample", run, "--num", 4, "--out", tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_samples_of_a_label_are_of_that_label(tmp_path, capsys):
    """By the nearest class mean of the data: 100 samples, chance is 10."""
    tiny = {"dataset": "digits", "hidden": (64,), "latents": 4}
    experiment = presets.cvae(**tiny, epochs=40, batch_size=50, learning_rate=3e-3)
    train(experiment, tmp_path / "run", quiet=True, devices=1)
    out = tmp_path / "x.npz"
    call("sample", tmp_path / "run", "--num", 100, "--out", out, "--label", 7)
    data = experiment.dataset.split("train")
    means = np.stack([data["x"][data["y"] == c].mean(0) for c in range(10)])
    x = read_npz(out)["x"].reshape(100, 1, -1).astype(float)
    nearest = np.square(x - means).sum(-1).argmin(1)
    assert (nearest == 7).mean() > 0.8


def test_as_a_program_errors_are_one_line_and_exit_2(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPTS / "train.py", "vea"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: no preset 'vea': did you mean vae, cvae, vqvae?\n"


def test_a_full_disk_gets_one_line_and_loses_nothing(capsys, tmp_path, monkeypatch):
    import shutil

    words = ["vae", *TINY.split(), "--devices", 1, "--workdir", tmp_path / "run"]
    full = shutil.disk_usage(tmp_path)._replace(free=10)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: full)
        with pytest.raises(SystemExit) as stop:
            call("train", *words, "--checkpoint-every", 1)
    assert stop.value.code == 1
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("error: cannot")
    assert "KiB needed for a checkpoint, 10 bytes free" in said[-1]
    call("train", *words, "--checkpoint-every", 1)
    assert load(tmp_path / "run")[1].step == 28


def test_a_failing_write_ends_in_one_line(tmp_path):
    """No file may grow past 100 kB, so the background write of a checkpoint fails."""
    words = [sys.executable, SCRIPTS / "train.py", "vae", *TINY.split()]
    words += ["--devices", "1"]
    words[words.index("--hidden") + 1] = "900"
    limited = ["sh", "-c", 'ulimit -f 200; exec "$@"', "sh", *words]
    done = subprocess.run(
        [*limited, "--workdir", tmp_path / "run"],
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")},
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr  # of writes that were under way
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "File too large (checkpoint not written)" in lines[0]


@pytest.mark.parametrize(
    ("words", "last"),
    [
        (("--seeds", 2), "ratio"),
        (("--model", "vaegan"), "examples_per_s"),
    ],
)
def test_the_benchmark_prints_speeds(words, last, capsys):
    small = ("--epochs", 1, "--hidden", 8, "--batch-size", 500)
    call("benchmark", *words, *small)
    name, number = capsys.readouterr().out.splitlines()[-1].split()
    assert name == last
    assert float(number) > 0


def test_the_benchmark_times_a_whole_run(tmp_path):
    """Three checkpoints and a half, 28 steps here; by default some thousands."""
    small = {"hidden": (8,), "latents": 2, "batch_size": 500, "checkpoint_every": 8}
    speed, share = benchmark.whole_run(presets.vae(**small), tmp_path / "run")
    assert speed > 0
    assert 0 < share < 1


def commanded(monkeypatch, *words):
    """Runs a line of the installed command in this process."""
    monkeypatch.setattr("sys.argv", ["/bin/vaejax", *map(str, words)])
    command.main()


def test_the_command_runs_the_programs(run, tmp_path, capsys, monkeypatch):
    commanded(monkeypatch, "--help")
    said = capsys.readouterr().out
    assert all(f"  {path.stem} " in said for path in SCRIPTS.glob("*.py"))
    out = tmp_path / "samples.npz"
    commanded(monkeypatch, "sample", run, "--num", 4, "--out", out)
    assert read_npz(out)["x"].shape[:3] == (4, 8, 8)


@pytest.mark.parametrize(
    "words, said",
    [
        ("trai", "no program 'trai': did you mean train?"),
        ("train vea", "no preset 'vea': did you mean vae, cvae, vqvae?"),
        ("evaluate --sampels 3", "(see vaejax evaluate --help)"),
    ],
)
def test_the_command_refuses_in_one_line(words, said, capsys, monkeypatch):
    with pytest.raises(SystemExit) as stop:
        commanded(monkeypatch, *words.split())
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


COMPLETE = """
source {file}
try() {{
  COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
  local found; found=$(complete -p "$1")
  found=${{found##*-F }}
  "${{found%% *}}" "$1" "${{!#}}"
  echo "${{COMPREPLY[*]}}"
}}
try train.py vaeg
try python scripts/train.py vae --laten
try python scripts/evaluate.py --spl
try study.py wgan_gp --binarize ""
try python other.py --spl
"""


def completed_by_bash(script, tmp_path, capsys):
    """The lines of what bash says when it has sourced our completion."""
    call("completion", "bash")
    file = tmp_path / "completion"
    file.write_text(capsys.readouterr().out)
    done = subprocess.run(
        ["bash", "-c", script.format(file=file)], capture_output=True, text=True
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_bash_completes_presets_flags_and_choices(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["completion.py"])
    assert completed_by_bash(COMPLETE, tmp_path, capsys) == [
        "vaegan vaegan_authors_code vaegan_paper",
        "--latents",
        "--split",
        "auto dynamic dynamic_train static none",
        "",
    ]


def test_bash_completes_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["vaejax completion"])
    tried = (
        COMPLETE.partition("try train.py")[0]
        + """
try vaejax eva
try vaejax train vaeg
try vaejax evaluate --spl
"""
    )
    assert completed_by_bash(tried, tmp_path, capsys) == [
        "evaluate",
        "vaegan vaegan_authors_code vaegan_paper",
        "--split",
    ]


@pytest.mark.skipif(not shutil.which("zsh"), reason="no zsh here")
def test_zsh_reads_the_completion(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["completion.py"])
    call("completion", "zsh")
    file = tmp_path / "completion"
    file.write_text(capsys.readouterr().out)
    words = (
        f"autoload -U compinit; compinit -D -u; source {file}; echo $_comps[train.py]"
    )
    done = subprocess.run(["zsh", "-f", "-c", words], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.strip() == "_tyro_train_py"
