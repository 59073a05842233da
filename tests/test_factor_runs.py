"""A run on data with known factors: its scores, their record and its pictures."""

import json

import numpy as np
import pytest

import vaejax
from tests.test_plots import names
from tests.test_scripts import call, refused
from vaejax import plots
from vaejax.laboratory.encodings import of_disentanglement
from vaejax.laboratory.measure import measure
from vaejax.metrics.disentanglement import information as info
from vaejax.presets import vae
from vaejax.training.evaluator import held_out_examples

DATA = "sprites/orientation=0,scale=1+5,x=0-30-6,y=0-30-6"
"""3 x 2 x 6 x 6 pictures."""
QUICK = ["mig", "mig_chen", "modularity", "irs"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with a tiny run on a few sprites."""
    folder = tmp_path_factory.mktemp("factors") / "run"
    settings = {"hidden": (16,), "latents": 3, "epochs": 2, "batch_size": 32}
    vaejax.train(vae(dataset=DATA, **settings), folder, quiet=True)
    return folder


@pytest.fixture(scope="module")
def loaded(run):
    return vaejax.load(run)


def test_scores_are_measured_printed_and_kept(run, loaded, capsys):
    words = ["--what", "disentanglement", "representation", "--split", "train"]
    call("evaluate", run, *words, "--num", "150", "--scores", *QUICK)
    said = capsys.readouterr()
    assert "mutual information gap, by a" in said.out and "mean of q(z | x)" in said.out
    record = json.loads((run / "laboratory.json").read_text())["measurements"]
    entry = record["disentanglement"]
    assert entry["factors"] == ["scale", "shape", "x", "y"]
    assert (entry["examples"], entry["split"]) == (150, "train")
    assert entry["settings"]["codes"] == "mean" and entry["settings"]["scores"] == QUICK
    # Of the very examples, encoded once more by the library's own verb.
    batch = held_out_examples(loaded[0], 150, "train")
    experiment, state = loaded
    q = vaejax.encode(experiment, state, batch["x"])
    values, codes = entry["values"], np.asarray(q.mean, float)
    gap = info.mutual_information_gap(codes, batch["factors"])
    np.testing.assert_allclose(values["mig"], gap.value, atol=1e-4)
    assert np.shape(values["mutual_information"]) == (3, 4)
    variance = np.asarray(q.variance)
    kl = 0.5 * (codes**2 + variance - 1 - np.log(variance)).mean(0)
    np.testing.assert_allclose(values["latent_kl"], kl, rtol=1e-3)
    told = record["representation"]["values"]
    assert 0 <= told["probe_accuracy"] <= 1 and told["classes"] == 3


def test_samples_are_scored_where_they_are_asked_for(loaded):
    experiment, state = loaded
    found = measure(experiment, state, ["disentanglement"], split="train", num=60)
    numbers = found["disentanglement"]
    assert numbers["sample"].shape == (60, 3)
    settings = {"scores": ["mig"], "seed": 0}
    values = [
        of_disentanglement(numbers, settings | {"codes": codes})["mig"]
        for codes in ("mean", "sample")
    ]
    assert values[0] != values[1]
    away = (numbers["sample"] - numbers["mean"]) / numbers["scale"]
    np.testing.assert_allclose((away.mean(), away.std()), (0, 1), atol=0.3)


def test_the_heat_map_shows_the_information(loaded):
    """Its cells, whose rows are latents by their KL."""
    figure = plots.factors(*loaded)
    batch = held_out_examples(loaded[0], 5000, "train")
    experiment, state = loaded
    means = np.asarray(vaejax.encode(experiment, state, batch["x"]).mean, float)
    share = info.information_matrix(means, batch["factors"])
    share /= info.factor_entropies(batch["factors"])
    axes = figure.axes[0]
    order = [int(name[2]) for name in names(axes.get_yticklabels())]
    assert names(axes.get_xticklabels()) == ["scale", "shape", "x", "y"]
    shown = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(shown, share[order], atol=1e-3)
    assert "factors" in plots.applicable(*loaded)


def test_data_without_factors_or_labels_is_refused(tmp_path, capsys):
    x = np.random.default_rng(0).integers(0, 255, (40, 4, 4)).astype(np.uint8)
    np.savez(tmp_path / "x.npz", x_train=x)
    data = f"npz:{tmp_path / 'x.npz'}"
    other = vae(dataset=data, hidden=(4,), latents=2, epochs=1, batch_size=8)
    vaejax.train(other, tmp_path / "run", quiet=True)
    for what, says in (
        ("disentanglement", "needs data with known factors, and npz:"),
        ("representation", "needs data with labels, and npz:"),
    ):
        assert says in refused(capsys, "evaluate", tmp_path / "run", "--what", what)
    line = refused(capsys, "plot", tmp_path / "run", "--what", "factors")
    assert "needs data with known factors" in line
