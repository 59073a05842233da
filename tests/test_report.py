"""Reports: complete pages, with the numbers of the run and nothing of it as markup."""

import html
import json
import re
import shutil
import signal
import statistics
import subprocess
from collections import Counter
from html.parser import HTMLParser

import jax
import numpy as np
import pytest

import vaejax
from tests.test_scripts import call, refused
from vaejax import parallel, plots, presets
from vaejax.cli import commands
from vaejax.reports import comparison, page, pictures
from vaejax.reports.groups import SeedGroup, group_by_seed
from vaejax.runtime.preemption import Stopped
from vaejax.training import facts
from vaejax.training.loop import first_state

TINY = ("--hidden", 16, "--latents", 2, "--batch-size", 96, "--devices", 1)
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
VOID = {"meta", "link", "img", "source", "br"}


class Page(HTMLParser):
    """The elements, texts and numbers of a page; its elements must be balanced."""

    def __init__(self, path):
        super().__init__()
        self.open, self.elements, self.texts, self.section = [], [], [], ""
        self.numbers = Counter()
        self.feed(path.read_text("utf-8"))
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.elements.append((tag, attrs))
        if tag == "section":
            self.section = attrs["aria-labelledby"]
        if tag == "data":
            self.numbers[self.section, float(attrs["value"])] += 1
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(" ".join(data.split()))

    @property
    def text(self):
        return " ".join(filter(None, self.texts))

    def values(self, attribute):
        return [attrs[attribute] for _, attrs in self.elements if attribute in attrs]

    def sections(self):
        return [a["aria-labelledby"] for tag, a in self.elements if tag == "section"]

    def drawn(self):
        return [a["alt"] for tag, a in self.elements if tag == "img"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Trained and evaluated by the command line; its data set is named like markup."""
    folder = tmp_path_factory.mktemp("report")
    place = folder / "<script>alert(1)<" / 'script>&".npz'
    place.parent.mkdir()
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (200, 8, 8), np.uint8), rng.integers(0, 3, 200)
    np.savez(place, x_train=x, y_train=y)
    words = ("--dataset", f"npz:{place}", "--epochs", 3, "--evaluate-every", 1)
    call("train", "vae", *words, *TINY, "--workdir", folder / "<b>a")
    assert Page(folder / "<b>a" / "report.html").text.count("Measured during training")
    call("evaluate", folder / "<b>a", "--samples", 7)
    return folder / "<b>a"


@pytest.fixture(scope="module")
def other(tmp_path_factory, run):
    """A GAN, trained from Python: no report yet, no encoder."""
    folder = tmp_path_factory.mktemp("report") / "gan"
    tiny = {"hidden": (16,), "latents": 3, "batch_size": 96, "epochs": 2}
    dataset = facts.gather_facts(run).data["name"]
    vaejax.train(presets.gan(dataset=dataset, **tiny), folder, devices=1, quiet=True)
    assert not (folder / "report.html").exists()
    return folder


@pytest.fixture(scope="module")
def compared(run, other):
    place = other.parent / "both.html"
    vaejax.compare(run, other, out=place, quiet=True)
    return place


def untrained(preset, **settings):
    experiment = preset(latents=3, **settings)
    return experiment, first_state(experiment, parallel.make_mesh(1, 1))


# One run.


def test_a_report_is_complete_and_semantic(run, compared):
    for path in (run / "report.html", compared):
        found = Page(path)
        for name in ("src", "href", "srcset"):
            assert all(value.startswith("data:") for value in found.values(name))
        assert not re.search(r"https?:|url\(|@import|<script", path.read_text("utf-8"))
        assert "default-src 'none'" in found.values("content")[-1]
        assert "width=device-width, initial-scale=1" in found.values("content")
        assert ("html", {"lang": "en"}) in found.elements
        assert all(found.drawn())
        ids = found.values("id")
        assert len(set(ids)) == len(ids)
        assert set(found.values("aria-labelledby")) <= set(ids)


def test_nothing_of_a_run_is_markup(run, compared):
    for path in (run / "report.html", compared):
        found = Page(path)
        assert not {tag for tag, _ in found.elements} & {"script", "b"}
        assert '<script>alert(1)</script>&".npz' in found.text
        assert "<b>a" in found.text


def test_the_metrics_are_those_of_the_evaluation(run):
    found = Page(run / "report.html")
    kept = json.loads((run / "evaluation.json").read_text())
    noted = (*facts.HOW, "selection")
    # An error of 0, of equal examples, is not shown.
    told = {n: v for n, v in kept.items() if v or not n.endswith("_se")}
    wanted = Counter(("metrics", float(v)) for n, v in told.items() if n not in noted)
    shown = {key: n for key, n in found.numbers.items() if key[0] == "metrics"}
    assert shown == wanted
    shown, error = (page.rounded(kept[n], kept["nll_se"]) for n in ("nll", "nll_se"))
    assert f"nll {shown} ± {error}" in found.text
    assert "7 importance samples each" in found.text


def test_what_a_run_was_is_in_its_report(run):
    found = Page(run / "report.html")
    assert found.sections() == [
        *("metrics", "curves", "pictures", "timing"),
        *("configuration", "data", "versions"),
    ]
    assert "finished: 3 steps, 3 epochs" in found.text
    assert "epochs 3 100" in found.text  # a changed setting, and its default
    assert f"jax {jax.__version__}" in found.text
    rows = (run / "timing.jsonl").read_text().splitlines()
    assert ("timing", json.loads(rows[-1])["seconds"]) in found.numbers
    captions = [alt.rpartition(": ")[2] for alt in found.drawn()]
    assert captions == [
        "terms over steps",
        "samples, E[x | z] with z from the prior",
        "test examples, below each its reconstruction",
        "posterior means of 20 test examples",
        "E[x | z] over the latent plane (z[0] right, z[1] up)",
    ]


@pytest.mark.parametrize(
    ("preset", "settings", "names"),
    [
        (presets.gan, {}, "samples"),
        (presets.cvae, {}, "samples classes reconstructions latents"),
        (presets.vae, {}, "samples reconstructions latents"),
        (presets.pca, {"dataset": "breast_cancer"}, "samples reconstructions latents"),
        (presets.vae_completion, {}, "samples reconstructions imputations latents"),
        (presets.cvae_sohn, {}, "samples reconstructions completions latents"),
    ],
)
def test_pictures_are_those_that_the_model_can_give(preset, settings, names):
    run = untrained(preset, **{"dataset": "digits", **settings})
    assert pictures.picture_names(*run) == names.split()


def test_imputations_are_drawn_where_data_have_holes():
    hidden = untrained(presets.miwae, dataset="digits", hide="half")
    whole = untrained(presets.miwae, dataset="digits")
    assert "imputations" in pictures.picture_names(*hidden)
    assert "imputations" not in pictures.picture_names(*whole)


def test_a_picture_on_a_page_has_its_title_once(run, tmp_path):
    loaded = vaejax.load(run)
    titled = plots.samples(*loaded)
    caption = pictures.captioned(titled, loaded[0])
    assert caption == "samples, E[x | z] with z from the prior"
    assert [axes.get_title() for axes in titled.axes] == [""]
    terms = plots.curves(*loaded, run)
    panels = [axes.get_title(loc="left") for axes in terms.axes]
    assert pictures.captioned(terms, loaded[0]) == "terms over steps"
    assert terms.get_suptitle() == ""
    assert all(panels)
    assert [axes.get_title(loc="left") for axes in terms.axes] == panels


def test_panels_of_a_table_keep_their_names():
    experiment, state = untrained(presets.pca, dataset="breast_cancer")
    figure = plots.samples(experiment, state)
    names = [axes.get_title() for axes in figure.axes]
    assert pictures.captioned(figure, experiment)
    assert all(names)
    assert [axes.get_title() for axes in figure.axes] == names


def test_a_classifier_generates_nothing():
    experiment = presets.classifier(dataset="digits", hidden=(16,))
    state = first_state(experiment, parallel.make_mesh(1, 1))
    assert pictures.picture_names(experiment, state) == []


def test_a_picture_that_fails_is_missed_and_no_more(run, tmp_path, monkeypatch, caplog):
    def fails(*arguments):
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr(plots, "PICTURES", {**plots.PICTURES, "latents": fails})
    found = Page(vaejax.report(run, out=tmp_path / "a.html"))
    assert len(found.drawn()) == 4
    assert "The picture could not be drawn: out of memory" in found.text
    assert [record.getMessage() for record in caplog.records] == [
        "warning: the report is without latents: out of memory"
    ]


def test_a_report_that_fails_loses_no_run(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(commands, "kept_card", lambda workdir: 1 / 0)
    commands.try_report(run, *vaejax.load(run))
    said = capsys.readouterr().err
    assert said == f"warning: no report of {run}: division by zero\n"


def test_a_run_that_is_interrupted_has_no_report(tmp_path, monkeypatch):
    def stops(*arguments, **settings):
        raise Stopped("stopped", signal.SIGTERM)

    monkeypatch.setattr(commands, "train_experiment", stops)
    with pytest.raises(Stopped):
        commands.train_run(presets.vae(dataset="digits"), tmp_path, 1, False)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_how_a_training_ended(run, tmp_path):
    words = ("--dataset", "digits", "--validation", 0.2, "--patience", 1)
    words = (*words, "--evaluate-every", 1, "--learning-rate", 0.1, "--epochs", 60)
    call("train", "vae", *words, *TINY, "--workdir", tmp_path / "early")
    found = Page(tmp_path / "early" / "report.html")
    kept = facts.gather_facts(tmp_path / "early")
    best = min(facts.held_out_rows(kept.rows), key=lambda row: row["selection"])
    assert "stopped early at step" in found.text
    assert f"of step {best['step']}, the best of its evaluations" in found.text
    assert kept.evaluation and kept.evaluation.step == best["step"]
    cut = kept._replace(rows=kept.rows[:1])
    assert cut.status == f"not finished: at step {cut.last} of {cut.steps}"
    assert kept._replace(diverged="loss is nan").status == "diverged: loss is nan"


def test_each_start_counts_its_seconds_from_0():
    rows = [
        {"step": step, "seconds": seconds, "examples_per_s": speed}
        for step, seconds, speed in [(5, 9.0, 1.0), (10, 10.0, 5.0), (15, 12.0, 7.0)]
    ]
    once, twice = ({"step": 0},), ({"step": 0}, {"step": 0}, {"step": 10})
    assert facts.timing_of(rows, once) == facts.Timing(12.0, 1, 6.0, 1.0)
    assert facts.timing_of(rows, twice) == facts.Timing(22.0, 2, 6.0, 1.0)
    assert facts.timing_of(rows, ()) == facts.Timing(None, 1, 6.0, 1.0)
    assert facts.timing_of((), once) is None


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (-104.234567, 0.3217, "-104.23"),
        (104.234567, 32.17, "104"),
        (0.0123456, 0.00021, "0.01235"),
        (0.01804226, 3e-10, "0.018042"),
        (1234567.8, None, "1.2346e+06"),
        (20, None, "20"),
        (1.5, float("nan"), "1.5"),
        (float("inf"), 0.0, "inf"),
        ("20855dc3", None, "20855dc3"),
    ],
)
def test_numbers_are_rounded_by_their_errors(value, error, shown):
    assert page.rounded(value, error) == shown


def test_settings_and_durations_are_words():
    values = [True, [512, 256], [], 1e-3, None, {"train": 5}]
    assert [page.words(v) for v in values] == [
        *("yes", "512 256", "none", "0.001", "not set", "train 5")
    ]
    seconds = [4.08, 59.99, 200, 3723]
    assert [page.duration(s) for s in seconds] == [
        *("4.1 s", "60.0 s", "3 min 20 s", "1 h 02 min")
    ]


# Several runs.


def test_runs_are_compared(run, other, compared):
    found = Page(compared)
    assert found.sections() == [
        *("metrics", "differences", "settings", "curves", "samples", "timing")
    ]
    assert "measure nothing of single examples in common" in found.text
    kept = json.loads((run / "evaluation.json").read_text())
    rows = [json.loads(r) for r in (other / "metrics.jsonl").read_text().splitlines()]
    for value in (kept["nll"], kept["nll_se"], rows[-1]["gap"]):
        assert ("metrics", value) in found.numbers
    runs = [facts.gather_facts(run), facts.gather_facts(other)]
    settings = {line.name: line.cells for line in comparison.differing_settings(runs)}
    assert settings["preset"] == ("vae", "gan")
    assert settings["latents"] == (2, 3)
    assert settings["beta"] == (1.0, None)
    assert "batch_size" not in settings
    curves, *samples = found.drawn()
    assert "Curves of 2 runs" in curves
    starts = [f"Samples of {each.name}: " for each in (run, other)]
    assert [s.startswith(e) for s, e in zip(samples, starts, strict=True)] == [True] * 2


def test_curves_of_runs_share_panels(run, other):
    kept = [facts.gather_facts(each).rows for each in (run, other)]
    figure = plots.compared.overlaid([[rows] for rows in kept])
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes}
    assert {"elbo", "critic: loss", "gap"} <= set(panels)
    one, two = plots.compared.colours(2)
    assert {line.get_color() for line in panels["elbo"].get_lines()} == {one}
    assert {line.get_color() for line in panels["gap"].get_lines()} == {two}
    dashed, solid = panels["elbo"].get_lines()
    assert (dashed.get_linestyle(), solid.get_linestyle()) == ("--", "-")
    points = [(r["step"], r["elbo"]) for r in kept[0] if "elbo" in r]
    np.testing.assert_allclose(solid.get_xydata(), points)
    assert len(set(plots.compared.colours(30))) == 30


def test_runs_have_short_names(tmp_path):
    ends = ["a/seed=0", "b/seed=0", "b/seed=1"]
    assert comparison.short_names([tmp_path / end for end in ends]) == ends
    assert comparison.short_names([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]


@pytest.mark.slow
def test_a_study_has_a_report_and_so_has_each_replica(tmp_path):
    words = ("--dataset", "digits", "--epochs", 1, "--seeds", 2, "--beta", 1, 4)
    call("study", "vae", *words, *TINY, "--workdir", tmp_path / "study")
    found = Page(tmp_path / "study" / "report.html")
    assert "4 runs compared" in found.text
    assert "beta 1 1 4 4" in found.text
    assert "beta=4,seed=1" in found.text
    runs = sorted((tmp_path / "study").glob("*/report.html"))
    assert len(runs) == 4
    facts_of = [facts.gather_facts(path.parent) for path in runs]
    groups = group_by_seed(facts_of)
    assert groups == [SeedGroup("beta 1", (0, 1)), SeedGroup("beta 4", (2, 3))]
    elbos = [
        next(v.value for v in each.evaluation.values if v.name == "elbo")
        for each in facts_of
    ]
    for pair in (elbos[:2], elbos[2:]):
        assert ("metrics", statistics.fmean(pair)) in found.numbers
        assert ("metrics", statistics.stdev(pair)) in found.numbers
    assert len([alt for alt in found.drawn() if alt.startswith("Samples of")]) == 2


def test_seeds_are_drawn_as_their_mean_in_a_band():
    def rows(values, steps=(5, 10, 15)):
        at = zip(steps, values, strict=False)
        return [{"step": s, "split": "test", "elbo": float(v)} for s, v in at]

    figure = plots.compared.overlaid([[rows([1, 2, 9]), rows([3, 6])], [rows([4, 4])]])
    (axes,) = figure.axes
    points = [line.get_xydata().tolist() for line in axes.get_lines()]
    assert points == [[[5, 2], [10, 4]], [[5, 4], [10, 4]]]
    (band,) = axes.collections  # a single run has none
    low, high = np.sqrt(2), np.sqrt(8)  # (n - 1) of 1, 3 and of 2, 6
    edges = {(5, 2 - low), (5, 2 + low), (10, 4 - high), (10, 4 + high)}
    found = {tuple(np.round(point, 6)) for point in band.get_paths()[0].vertices}
    assert found == {tuple(np.round(point, 6)) for point in edges}


# What is missing or damaged.


def test_what_cannot_be_reported_is_one_line(run, tmp_path, capsys):
    def said(*words):
        return refused(capsys, "report", *words)

    assert "is of one run or study: give its folder" in said()
    assert "several are compared by compare.py" in said(run, run)
    assert "is not a run: it has no config.json" in said(tmp_path / "none")
    assert "is not a run: it has no config.json" in said(tmp_path)
    assert "there is no folder" in said(run, "--out", tmp_path / "x" / "y.html")
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "evaluation.json").write_text("{")
    assert "evaluation.json is not JSON" in said(copy)
    (copy / "evaluation.json").write_text("[]")
    assert "evaluation.json holds something else" in said(copy)
    (copy / "evaluation.json").unlink()
    shutil.rmtree(copy / "checkpoints")
    assert "no checkpoint yet" in said(copy)


def test_what_cannot_be_compared_is_one_line(run, tmp_path, capsys):
    def said(*words):
        return refused(capsys, "compare", *words, "--out", tmp_path / "y.html")

    assert "is of two runs or more" in said()
    assert "is of two runs or more" in said(run)
    assert "given more than once" in said(run, run)
    assert "is not a run: it has no config.json" in said(run, tmp_path / "none")
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    config = json.loads((copy / "config.json").read_text())
    assert config["likelihood"] == "logistic_mixture"
    (copy / "config.json").write_text(json.dumps(config | {"likelihood": "laplace"}))
    assert "differ in likelihood (logistic_mixture and laplace)" in said(run, copy)
    changed = config["data"] | {"digest": "0" * 32}
    (copy / "config.json").write_text(json.dumps(config | {"data": changed}))
    assert "differ in data set" in said(run, copy)
    (copy / "config.json").write_text(json.dumps(config))
    assert "no metric 'nlll': did you mean nll" in said(run, copy, "--metric", "nlll")
    (copy / "metrics.jsonl").unlink()
    assert "has no metrics yet" in said(run, copy)
    assert not (tmp_path / "y.html").exists()


def test_a_run_of_an_older_version_has_a_report(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    for name in ("environment", "timing"):
        (copy / f"{name}.jsonl").unlink()
    (copy / "evaluation.json").unlink()
    found = Page(vaejax.report(copy))
    assert "by a version that did not record them" in found.text
    assert "timing" not in found.sections()
    assert "Measured during training" in found.text


# In a browser.


def browse(path, tmp_path, width, *flags):
    """What Chromium says of a page at a width, and what the page asked the network."""
    log = tmp_path / "net.json"
    done = subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu"),
            *("--disable-background-networking", "--enable-logging=stderr"),
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={tmp_path / 'profile'}",
            *(f"--log-net-log={log}", f"--window-size={width},2000", *flags),
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0
    events = json.loads(log.read_text())["events"]
    asked = [event.get("params", {}) for event in events]
    # The browser's own requests come from no origin, those of a file's page from null.
    urls = [p["url"] for p in asked if "url" in p and p.get("initiator") == "null"]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, console, urls


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_it_without_an_error_or_a_request(
    width, run, compared, tmp_path
):
    for number, path in enumerate((run / "report.html", compared)):
        picture = tmp_path / f"{number}.png"
        _, *found = browse(path, tmp_path, width, f"--screenshot={picture}")
        assert found == [[], []]
        assert picture.stat().st_size > 10_000
        # In a frame: a window is not narrower than Chromium's least.
        frame = tmp_path / "frame.html"
        read = "document.title = this.contentDocument.documentElement.scrollWidth"
        content = html.escape(path.read_text("utf-8"))
        frame.write_text(
            f'<iframe width="{width}" onload="{read}" srcdoc="{content}"></iframe>'
        )
        dom, *_ = browse(frame, tmp_path, 1400, "--dump-dom", "--hide-scrollbars")
        assert f"<title>{width}</title>" in dom


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_errors_and_requests_would_be_noticed(tmp_path):
    bad = tmp_path / "bad.html"
    image = '<img src="http://127.0.0.1:9/x.png">'
    bad.write_text(f"<!doctype html>{image}<script>console.error('bad')</script>")
    picture = f"--screenshot={tmp_path / 'a.png'}"
    _, console, urls = browse(bad, tmp_path, 390, picture)
    assert len(console) == len(urls) == 1
