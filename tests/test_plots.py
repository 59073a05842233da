"""Pictures: facts about figures and grids, no pixels of a font."""

import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import vaejax
from vaejax import parallel, plots, presets
from vaejax.cli.programs import plot as program
from vaejax.objectives.terms import TERMS
from vaejax.plots import examples, grid, images, plane, terms
from vaejax.training.evaluator import held_out_examples
from vaejax.training.loop import first_state

TINY = {"hidden": (16,), "epochs": 2, "evaluate_every": 1, "batch_size": 64}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A short training of two latents."""
    folder = tmp_path_factory.mktemp("runs") / "two"
    experiment = presets.vae(dataset="digits", latents=2, log_every=11, **TINY)
    vaejax.train(experiment, folder, devices=1, quiet=True)
    return folder


@pytest.fixture(scope="module")
def two(workdir):
    return vaejax.load(workdir)


def untrained(experiment):
    """An experiment with its first state: enough for a picture's layout."""
    return experiment, first_state(experiment, parallel.make_mesh(1, 1))


@pytest.fixture(scope="module")
def many():
    return untrained(presets.vae(dataset="digits", latents=12, **TINY))


@pytest.fixture(scope="module")
def table():
    return untrained(presets.vae(dataset="breast_cancer", latents=3, **TINY))


def shown(figure):
    """The stitched array of a grid figure."""
    (axes,) = figure.axes
    (image,) = axes.get_images()
    return np.asarray(image.get_array())


def tiles(figure, size=64):
    """Rows and columns of a grid of enlarged digits."""
    height, width, _ = shown(figure).shape
    rows, columns = (height + grid.GAP) / (size + grid.GAP), (width + 2) / (size + 2)
    assert rows == int(rows)
    return int(rows), int(columns)


def opened(path):
    """The picture file as an array."""
    with Image.open(path) as image:
        return np.asarray(image)


def names(labels):
    return [label.get_text() for label in labels]


# Grids.


@pytest.mark.parametrize(("channels", "columns"), [(1, 3), (3, 4), (3, None), (2, 5)])
def test_a_tile_is_where_the_docstring_says(channels, columns):
    x = np.random.default_rng(0).uniform(size=(7, 4, 6, channels))
    found = plots.image_grid(x, columns, gap=2)
    columns = columns or 3
    assert found.shape == (-(-7 // columns) * 6 - 2, columns * 8 - 2, 3)
    for i, tile in enumerate(x.astype(np.float32)):
        row, column = i // columns * 6, i % columns * 8
        there = found[row : row + 4, column : column + 6]
        grey = tile if channels == 3 else tile.mean(-1, keepdims=True)
        np.testing.assert_allclose(there, np.broadcast_to(grey, (4, 6, 3)), rtol=1e-6)
    assert np.allclose(found[:4, 6:8], grid.BETWEEN)
    assert (found[-4:, -6:] == 1).all() or 7 % columns == 0


def test_images_are_clipped_and_there_must_be_some():
    found = plots.image_grid(np.array([-1.0, 2.0]).reshape(2, 1, 1, 1), 2, gap=0)
    assert found.tolist() == [[[0] * 3, [1] * 3]]
    with pytest.raises(vaejax.InputError, match="no images"):
        plots.image_grid(np.zeros((0, 2, 2, 1)))


def test_a_saved_grid_is_the_grid_enlarged(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)) / 255
    plots.save_grid(x, tmp_path / "a.png")
    saved = opened(tmp_path / "a.png")
    assert saved.shape == (130, 130, 3)
    assert (saved[66::8, 66::8] == np.round(x[3] * 255)).all()


@pytest.mark.parametrize(
    ("shape", "scale", "fit"), [((28, 28), 3, 15), ((8, 8), 8, 15), ((256, 256), 1, 6)]
)
def test_tiles_are_large_enough_and_rows_not_too_long(shape, scale, fit):
    assert grid.magnification((*shape, 1)) == scale
    assert grid.columns_that_fit((*shape, 1), 15) == fit


def test_a_pixel_of_the_grid_is_a_pixel_of_the_picture(many, tmp_path):
    figure = plots.reconstructions(*many)
    figure.savefig(tmp_path / "a.png")
    (axes,) = figure.axes
    x0, y0, x1, y1 = axes.get_window_extent().extents
    saved = opened(tmp_path / "a.png")[..., :3]
    top, left = len(saved) - round(y1), round(x0)
    there = saved[top : top + round(y1 - y0), left : left + round(x1 - x0)]
    assert np.abs(there / 255 - shown(figure)).max() < 0.01


# Pictures of images.


def test_every_picture_is_drawn(workdir, many, two, table):
    labelled, completing = ["classes", "labels"], ["completions"]
    layered = ["blocks", "layers"]  # of several blocks of latents
    # Their data are whole: what would be filled in was never missing.
    given = [*labelled, *completing, *layered, "imputations", "factors"]
    assert plots.applicable(*two) == [n for n in plots.PICTURES if n not in given]
    assert set(plots.PICTURES) - set(plots.applicable(*many)) == {"manifold", *given}
    tables = ["curves", "samples", "reconstructions", "latents"]
    assert plots.applicable(*table) == tables
    paths = list(plots.write(workdir))
    assert [path.stem for path in paths] == plots.applicable(*two)
    for path in paths:
        assert path.parent == workdir / "plots"
        assert min(opened(path).shape[:2]) > 100


def test_samples_are_those_of_the_model(many):
    figure = plots.samples(*many, seed=3)
    assert tiles(figure) == (10, 10)
    x = np.asarray(vaejax.sample(*many, jax.random.key(3), 100))
    np.testing.assert_allclose(
        shown(figure)[66::66, 0, 0], x[10::10, 0, 0, 0], atol=1e-6
    )


def test_reconstructions_are_below_what_the_model_saw(many):
    figure = plots.reconstructions(*many)
    assert tiles(figure) == (6, 10)
    x = held_out_examples(many[0], 30)["x"]
    assert set(np.unique(x)) == {0, 1}  # binarized, as in training
    found, rebuilt = shown(figure), vaejax.reconstruct(*many, x)
    np.testing.assert_allclose(found[:64:8, :64:8, 0], x[0, ..., 0])
    np.testing.assert_allclose(found[66:130:8, :64:8, 0], rebuilt[0, ..., 0], atol=1e-6)
    below = np.asarray(rebuilt)[13, ..., 0]
    np.testing.assert_allclose(found[198:262:8, 198:262:8, 0], below, atol=1e-6)


def test_test_examples_keep_their_labels_and_are_the_same_again(many):
    experiment, _ = many
    batch, again = (held_out_examples(experiment, n) for n in (40, 40))
    arrays = experiment.dataset.split("test")
    assert (batch["y"] == arrays["y"][batch["index"]]).all()
    assert (batch["x"] == again["x"]).all()
    assert len(held_out_examples(experiment, 10**6)["x"]) == 359


def test_an_interpolation_runs_from_example_to_example(many):
    figure = plots.interpolation(*many)
    assert tiles(figure) == (8, 12)
    x = np.asarray(held_out_examples(many[0], 16)["x"])
    ends = np.asarray(vaejax.reconstruct(*many, x))
    row = shown(figure)[:64:8, ::8, 0]
    assert (row[:, :8] == x[0, ..., 0]).all()
    found = shown(figure)[:64:8]
    for place, tile in [(1, ends[0]), (10, ends[8]), (11, x[8])]:
        left = place * 66
        there = found[:, left : left + 64 : 8, 0]
        np.testing.assert_allclose(there, tile[..., 0], atol=1e-5)


def test_a_traversal_moves_the_latents_with_the_largest_kl_one_by_one(many):
    figure = plots.traversal(*many, example=2)
    assert tiles(figure) == (10, 13)
    x = held_out_examples(many[0], examples.MOST)["x"]
    q = vaejax.encode(*many, x)
    means, variance = np.asarray(q.mean), np.asarray(q.variance)
    kl = 0.5 * (means**2 + variance - 1 - np.log(variance)).mean(0)
    order = np.argsort(-kl)[:10]
    labels = names(figure.axes[0].get_yticklabels())
    assert labels == [f"z[{i}]  KL {kl[i]:.2f}" for i in order]
    columns = names(figure.axes[0].get_xticklabels())
    assert columns[:2] + columns[-1:] == ["-3", "-2.5", "3"]
    z = means[2].copy()
    z[order[1]] = -2.5
    tile = np.asarray(vaejax.decode(*many, z[None]))[0, ..., 0]
    found = shown(figure)[66:130:8, 66:130:8, 0]
    np.testing.assert_allclose(found, tile, atol=1e-5)


def test_a_manifold_is_the_prior_plane(two):
    figure = plots.manifold(*two)
    assert tiles(figure) == (15, 15)
    low, high = images.quantiles(15)[[0, -1]]
    corners = np.array([[low, high], [high, low]], np.float32)  # (z[0], z[1])
    first, last = np.asarray(vaejax.decode(*two, corners))[..., 0]
    found = shown(figure)[..., 0]
    np.testing.assert_allclose(found[:64:8, :64:8], first, atol=1e-5)
    np.testing.assert_allclose(found[-64::8, -64::8], last, atol=1e-5)


def test_quantiles_cut_the_normal_in_equal_parts():
    values = images.quantiles(4)
    np.testing.assert_allclose(values, [-1.1503, -0.3186, 0.3186, 1.1503], atol=1e-4)


def test_a_manifold_needs_two_latents(many):
    with pytest.raises(vaejax.InputError, match="2 latents, this one has 12") as raised:
        plots.manifold(*many)
    assert "\n" not in str(raised.value)


# Pictures of what is given.


@pytest.fixture(scope="module")
def given():
    return untrained(presets.cvae(dataset="digits", latents=3, **TINY))


def test_a_column_of_classes_is_a_class(given):
    figure = plots.classes(*given, seed=1)
    assert tiles(figure) == (8, 10)
    assert names(figure.axes[0].get_xticklabels()) == [str(n) for n in range(10)]
    z = jax.random.normal(jax.random.key(1), (8, 3))  # the prior's draws
    x = vaejax.decode(*given, z[2:3], {"y": np.array([7])})[0, ..., 0]
    tile = shown(figure)[2 * 66 :, 7 * 66 :, 0][:64:8, :64:8]
    np.testing.assert_allclose(tile, x, atol=1e-6)


def test_labels_are_mixed_at_one_z(given):
    figure = plots.labels(*given)
    assert tiles(figure) == (8, 11)
    z = jax.random.normal(jax.random.key(0), (8, 3))[1:2]
    half = np.zeros((1, 10), np.float32)
    half[0, 1:3] = 0.5  # the second row goes from class 1 to class 2
    x = vaejax.decode(*given, z, {"y": half})[0, ..., 0]
    tile = shown(figure)[66:, 5 * 66 :, 0][:64:8, :64:8]
    np.testing.assert_allclose(tile, x, atol=1e-6)


def test_an_attribute_is_a_mean_with_minus_a_mean_without(many):
    batch = held_out_examples(many[0], examples.MOST)
    x, three = batch["x"], batch["y"] == 3
    z = np.asarray(vaejax.encode(*many, x).mean)
    direction = z[three].mean(0) - z[~three].mean(0)
    found = vaejax.attribute(*many, x, three)
    np.testing.assert_allclose(found, direction, atol=1e-6)
    figure = plots.attributes(*many)
    assert tiles(figure) == (8, 12)
    moved = vaejax.decode(*many, z[:1] + direction)[0, ..., 0]
    tile = shown(figure)[:, 5 * 66 :, 0][:64:8, :64:8]  # after x, decoded, 0, 1, 2
    np.testing.assert_allclose(tile, moved, atol=1e-5)
    with pytest.raises(vaejax.InputError, match="an attribute of 4 in 4"):
        vaejax.attribute(*many, x[:4], np.ones(4, bool))


def test_what_is_seen_stays_in_every_completion():
    run = untrained(presets.cvae_sohn(dataset="digits", hidden=(16,), latents=3))
    figure = plots.completions(*run)
    assert tiles(figure) == (8, 10)
    rows = shown(figure)[:64:8, :, 0]
    columns = [rows[:, at : at + 64 : 8] for at in range(0, 660, 66)]
    seen, *others = columns
    assert (seen[:4] == 0.5).all()
    assert (seen[4:, 4:] == 0.5).all()
    for other in others:  # the lower left quadrant: of the guess, of draws, of x
        np.testing.assert_allclose(other[4:, :4], seen[4:, :4], atol=1e-6)
    assert not np.allclose(others[1], others[2])


@pytest.mark.parametrize(("factor", "collapses"), [(0, False), (5, True)])
def test_completions_say_what_they_stand_for(factor, collapses, many):
    # Networks of zeros say prior and posterior are one and no z matters: all samples
    # weigh alike. With wild ones a single sample has all the weight.
    experiment, state = many
    params = jax.tree.map(lambda weight: factor * weight, state.params)
    state = state._replace(params=params)
    figure = plots.imputations(experiment, state)
    (axes,) = figure.axes
    effective = [int(label.split()[1]) for label in names(axes.get_yticklabels())]
    assert len(effective) == tiles(figure)[0]
    assert ("collapse" in axes.get_title()) == collapses
    assert (effective == [1000] * len(effective)) == (not collapses)
    assert (min(effective) < 10) == collapses


@pytest.mark.parametrize("name", ["classes", "labels", "completions"])
def test_pictures_that_need_conditions(name, many, tmp_path):
    with pytest.raises(vaejax.InputError, match=f"^{name} needs a model"):
        plots.PICTURES[name](*many, tmp_path)


# Tables.


@pytest.mark.parametrize("name", ["interpolation", "traversal", "manifold"])
def test_pictures_that_need_images(name, table, tmp_path):
    with pytest.raises(vaejax.InputError, match=f"^{name} needs images") as raised:
        plots.PICTURES[name](*table, tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["samples", "reconstructions"])
def test_a_table_has_a_panel_for_each_of_its_first_columns(name, table, tmp_path):
    figure = plots.PICTURES[name](*table, tmp_path)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [f"column {i}" for i in range(12)]
    low, high = figure.axes[0].get_xlim()  # radii, in their own units
    assert high > 20
    assert low < 15


# Latents.


def test_latents_are_coloured_by_class(two, many, table):
    for run, count in [(two, 10), (many, 10), (table, 2)]:
        (axes,) = plots.latents(*run).axes
        assert len(axes.get_legend().get_texts()) == count
        (points,) = axes.collections
        assert len(points.get_offsets()) == run[0].dataset.spec.sizes["test"]
    assert "component 1 of 12 latents" in plots.latents(*many).axes[0].get_xlabel()
    assert plots.latents(*two).axes[0].get_xlabel() == "z[0]"


def test_the_plane_of_latents():
    means = np.random.default_rng(0).normal(size=(30, 3)) * np.array([0.1, 3.0, 1.0])
    points, labels = plane.plane(means)
    centred = means - means.mean(0)
    assert abs(np.corrcoef(points[:, 0], centred[:, 1])[0, 1]) > 0.98
    share = points[:, 0].var() / means.var(0).sum()
    assert f"({share:.0%} of their variance)" in labels[0]
    assert plane.plane(means[:, :2])[1] == ("z[0]", "z[1]")
    assert plane.plane(means[:, :1])[0].shape == (30, 2)


def test_classes_that_are_many_or_unknown():
    points = np.zeros((30, 2))
    figure = plots.Picture()
    plane.scatter(figure.add_subplot(), points, np.arange(30), [*map(str, range(30))])
    assert [axes.get_ylabel() for axes in figure.axes] == ["", "class"]
    figure = plots.Picture()
    plane.scatter(figure.add_subplot(), points, None, [])
    assert figure.axes[0].get_legend() is None


# Curves.


def test_curves_show_training_against_held_out_data(workdir, two):
    figure = plots.curves(*two, workdir)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["elbo", "distortion", "kl", "active units"]
    rows = [json.loads(r) for r in (workdir / "metrics.jsonl").read_text().splitlines()]
    train, test = figure.axes[0].get_lines()
    assert [train.get_label(), test.get_label()] == ["train", "test"]
    for line, split, name in [(train, "train", "vae/elbo"), (test, "test", "elbo")]:
        points = [(row["step"], row[name]) for row in rows if row["split"] == split]
        np.testing.assert_allclose(line.get_xydata(), points)
    units = [axes.get_ylabel() for axes in figure.axes]
    assert units == ["nats", "nats", "nats", "latents"]


def test_curves_mark_the_state_that_was_loaded(workdir, two):
    experiment, state = two
    earlier = state._replace(step=state.step - 11)
    (line,) = [
        line
        for line in plots.curves(experiment, earlier, workdir).axes[0].get_lines()
        if line.get_label() == "state loaded"
    ]
    assert line.get_xdata()[0] == int(state.step) - 11


def rows_of(**values):
    """Rows of a run of eight steps, one a step."""
    return [
        {"step": i + 1, "split": "train"} | {n: float(v[i]) for n, v in values.items()}
        for i in range(8)
    ]


def test_terms_that_say_nothing_more_are_left_out():
    up = np.arange(8.0)
    rows = rows_of(
        **{"vae/elbo": -up, "vae/loss": up, "vae/beta": up * 0, "vae/kl": up**2}
    )
    assert list(terms.telling(terms.terms_of(rows), TERMS)) == ["vae/elbo", "vae/kl"]
    weighted = rows_of(**{"vae/elbo": -up, "vae/loss": up + 1, "vae/beta": up})
    expected = ["vae/elbo", "vae/loss"]
    assert list(terms.telling(terms.terms_of(weighted), TERMS)) == expected
    assert set(terms.telling(terms.terms_of(rows[:1]), TERMS)) == rows[0].keys() - {
        "step",
        "split",
    }


def test_players_share_held_out_terms_and_keep_their_names(two, tmp_path):
    up = np.arange(8.0)
    held = {"step": 8, "split": "validation", "kl": 3.0, "kl_se": 1.0, "selection": 0}
    rows = [*rows_of(**{"a/kl": up, "b/kl": up**2, "b/loss": up**3}), held]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    figure = plots.curves(*two, tmp_path)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["b: loss", "a: kl", "b: kl"]
    assert [len(axes.get_lines()) for axes in figure.axes] == [2 - 1, 2, 2]


def test_early_values_do_not_dwarf_the_later_ones():
    steps = np.arange(1.0, 41.0)
    steep = {"train": terms.Curve(steps, 100 + 1000 / steps**2)}
    low, high = terms.late_limits(steep)
    assert 99 < low < 101 < 109 < high < 112
    assert terms.origin(steep, (low, high)) == "starts at 1100"
    assert terms.late_limits({"train": terms.Curve(steps, steps)}) is None
    assert terms.late_limits({"train": terms.Curve(steps[:1], steps[:1])}) is None


def test_curves_of_a_run_without_rows(two, tmp_path):
    with pytest.raises(vaejax.InputError, match="has no metrics yet"):
        plots.curves(*two, tmp_path)


# Notebooks and the script.


def test_notebooks_show_figures_and_keep_their_backend(table):
    assert plots.latents(*table)._repr_png_().startswith(b"\x89PNG")
    for path in Path(plots.__file__).parent.glob("*.py"):
        assert not re.search(r"import.*pyplot", path.read_text()), path


def test_names_that_are_no_pictures(tmp_path):
    with pytest.raises(vaejax.InputError, match="did you mean samples"):
        next(plots.write(tmp_path, ["sampels"]))


def test_the_script_prints_what_it_wrote(workdir, tmp_path, capsys):
    arguments = [str(workdir), "--out", str(tmp_path), "--what"]
    program.run([*arguments, "curves", "latents"])
    paths = [tmp_path / f"{name}.png" for name in ("curves", "latents")]
    assert capsys.readouterr().out.split() == [str(path) for path in paths]
    assert all(path.exists() for path in paths)
    with pytest.raises(SystemExit) as refused:
        program.run([*arguments, "sampels"])
    assert refused.value.code == 2
    assert "did you mean samples" in capsys.readouterr().err


def test_the_script_names_every_picture():
    doc = program.main.__doc__
    assert all(name in doc for name in plots.PICTURES)
