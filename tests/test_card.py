"""`card.json`: what a run was made of and came to."""

import json
import logging
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.test_report import Page
from tests.test_scripts import call
from vaejax import evaluate, load, presets, train
from vaejax.runtime import environment
from vaejax.runtime.jsonlines import read_rows
from vaejax.training import card as training_card

TINY = {"dataset": "digits", "hidden": (8,), "latents": 2, "batch_size": 96}
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Trained for two epochs, and not evaluated after that."""
    folder = tmp_path_factory.mktemp("card") / "run"
    train(presets.vae(**TINY, epochs=2, seed=4), folder, quiet=True, devices=1)
    return folder


def card(folder):
    return json.loads((folder / "card.json").read_text())


def test_training_leaves_a_card(run):
    found, (experiment, state) = card(run), load(run)
    assert found["preset"] == "vae"
    assert found["seed"] == 4
    assert found["settings"]["hidden"] == [8]
    assert found["settings"]["beta"] == 1.0  # a default
    assert found["likelihood"] == "bernoulli"
    assert found["data"]["digest"] == experiment.dataset.spec.digest
    # 64-8-(2 + 2) and 2-8-64, with biases.
    assert found["parameters"] == 65 * 8 + 2 * 9 * 2 + 3 * 8 + 9 * 64
    assert found["training"]["step"] == found["training"]["steps"] == int(state.step)
    timing = read_rows(run / "timing.jsonl")
    assert found["training"]["seconds"] == timing[-1]["seconds"]
    assert found["evaluation"]["during_training"]
    last = read_rows(run / "metrics.jsonl")[-1]
    elbo = found["evaluation"]["values"]["elbo"]
    assert elbo["value"] == last["elbo"]
    assert elbo["standard_error"] == last["elbo_se"]


def test_an_evaluation_is_on_the_card(run, capsys):
    call("evaluate", run, "--samples", 20, "--batch-size", 100)
    found = card(run)["evaluation"]
    values = evaluate(*load(run), samples=20, batch_size=100)
    assert not found["during_training"]
    assert found["importance_samples"] == 20
    assert found["examples"] == 359
    nll = found["values"]["nll"]
    assert nll["value"] == values["nll"]
    assert nll["standard_error"] == values["nll_se"]
    assert {"nll_ess", "nll_low_ess"} <= found["values"].keys()


def test_the_report_is_drawn_from_the_card_that_an_end_has_kept(run, monkeypatch):
    """Files are read once: after an evaluation, card and page are of one reading."""
    seen = []
    gather = training_card.gather_facts
    monkeypatch.setattr(
        training_card, "gather_facts", lambda path: seen.append(path) or gather(path)
    )
    call("evaluate", run, "--samples", 0, "--batch-size", 100)
    assert seen == [run]
    found, text = card(run), Page(run / "report.html").text
    start = found["starts"][-1]
    assert f"parameters {found['parameters']:,}" in text
    assert found["parameters"] > 999  # separators are seen
    assert str(found["parameters"]) not in text.partition("Versions")[2]
    for words in (
        f"jax {start['jax']}",
        f"devices {start['devices']}",
        "precision f32",
    ):
        assert words in text
    assert "seed 4" in text
    assert found["data"]["digest"] in text
    if "commit" in start:
        assert start["commit"] in text


def test_a_run_without_a_card_of_today_has_one_from_its_files(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    found = training_card.kept_card(copy)
    assert found == card(copy)
    (copy / "card.json").write_text(json.dumps({**found, "format": 1, "preset": "?"}))
    assert training_card.kept_card(copy) == found
    (copy / "card.json").unlink()
    assert training_card.kept_card(copy) == found


def test_a_run_outlives_a_card_that_cannot_be_made(run, caplog):
    """A damaged evaluation is said, and is no reason to lose a training."""
    (run / "evaluation.json").write_text("{}}")
    (run / "card.json").unlink()
    with caplog.at_level(logging.WARNING):
        state = train(presets.vae(**TINY, epochs=2, seed=4), run, quiet=True, devices=1)
    assert int(state.step) == card_steps(run)
    assert "no card of" in caplog.text
    assert "evaluation.json" in caplog.text
    assert not (run / "card.json").exists()
    (run / "evaluation.json").unlink()


def card_steps(run):
    return read_rows(run / "metrics.jsonl")[-1]["step"]


def test_the_commit_is_that_of_the_checkout():
    found = environment.source()
    if not (ROOT / ".git").exists():
        assert not found
        return
    done = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.get("commit", "") == done.stdout.strip()


@pytest.mark.parametrize("there", [True, False])
def test_without_a_checkout_there_is_no_commit(there, tmp_path, monkeypatch):
    """Neither where vaejax is installed, nor where git cannot read what is there."""
    module = tmp_path / "vaejax" / "runtime" / "environment.py"
    monkeypatch.setattr(environment, "__file__", str(module))
    if there:
        (tmp_path / ".git").mkdir()
    environment.source.cache_clear()
    try:
        assert environment.source() == {}
    finally:
        environment.source.cache_clear()
