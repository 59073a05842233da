"""Runs side by side: example by example, over seeds, and what does not compare."""

import html
import json
import re
import shutil

import jax
import numpy as np
import pytest
from scipy import stats

import vaejax
from tests.test_report import CHROMIUM, Page, browse
from tests.test_scripts import call, refused
from vaejax import parallel, presets
from vaejax.cli import commands_compare
from vaejax.data.preprocess import fingerprint
from vaejax.reports.differences import paired_difference, welch_difference
from vaejax.reports.groups import group_by_seed, seed_differences
from vaejax.reports.page import rounded
from vaejax.reports.pairing import Wanted, kept_examples, same_inputs
from vaejax.training.evaluator import Evaluator
from vaejax.training.facts import gather_facts
from vaejax.training.loop import first_state
from vaejax.training.per_example import NAME, read_examples, write_examples

TINY = {"dataset": "digits", "hidden": (8,), "latents": 2, "batch_size": 96}
BATCH = 96
SAMPLES = 30


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of different seeds and weights of the KL."""
    folder = tmp_path_factory.mktemp("compare")
    for name, settings in {"a": {"seed": 0}, "b": {"seed": 1, "beta": 4.0}}.items():
        experiment = presets.vae(**TINY, epochs=4, **settings)
        vaejax.train(experiment, folder / name, quiet=True, devices=1)
    return folder / "a", folder / "b"


@pytest.fixture(scope="module")
def examples(runs):
    """The numbers of each example of both, with the noise of the first."""
    how = {"samples": SAMPLES, "batch_size": BATCH, "seed": 0}
    return [vaejax.per_example(*vaejax.load(run), **how) for run in runs]


def kept(run, examples, **changed):
    """Writes the file of a run, its numbers or conditions changed."""
    about = examples.about._replace(**changed)
    write_examples(examples._replace(about=about), run / NAME)


# Numbers of each example.


def test_their_means_are_what_is_printed(runs, examples):
    """359 examples in batches of 96: what fills up the last one counts nothing."""
    experiment, state = vaejax.load(runs[0])
    how = {"samples": SAMPLES, "batch_size": BATCH}
    printed, found = vaejax.evaluate(experiment, state, **how), examples[0]
    assert {"elbo", "distortion", "kl", "nll", "nll_ess"} <= found.values.keys()
    for name, each in found.values.items():
        assert each.shape == (359,)
        mean, error = each.mean(dtype=np.float64), each.std(ddof=1) / np.sqrt(359)
        np.testing.assert_allclose(mean, printed[name], rtol=2e-6)
        np.testing.assert_allclose(error, printed[f"{name}_se"], rtol=2e-5, atol=1e-7)
    bits = found.values["nll"].mean() / 64 / np.log(2)
    np.testing.assert_allclose(bits, printed["bits_per_dim"], rtol=2e-6)
    assert found.index.tolist() == list(range(359))
    labels = experiment.dataset.split("test")["y"]
    np.testing.assert_array_equal(found.label, labels)


def test_the_terms_of_each_example_are_its_elbo(examples):
    values = examples[0].values
    summed = -values["distortion"] - values["kl"]
    np.testing.assert_allclose(values["elbo"], summed, rtol=1e-5)
    assert (values["nll_ess"] <= SAMPLES * (1 + 1e-5)).all()
    # 30 draws bound the evidence tighter than one does.
    assert values["nll"].mean() < -values["elbo"].mean()


def test_keeping_them_changes_no_number(runs):
    experiment, state = vaejax.load(runs[0])
    mesh = parallel.make_mesh(1, BATCH)
    plain, keeping = (
        Evaluator(experiment, "test", 0, mesh, BATCH, each=each).measure(state)
        for each in (False, True)
    )
    assert plain.each == {}
    assert keeping.values == pytest.approx(plain.values, rel=1e-6)


def test_a_program_is_traced_once_for_all_batches(runs):
    experiment, state = vaejax.load(runs[0])
    traces = []

    def build(settings):
        traces.append(settings)
        return experiment

    evaluator = Evaluator(
        experiment, "test", 0, parallel.make_mesh(1, BATCH), BATCH, build
    )
    assert evaluator(state) == evaluator(state)
    assert len(traces) == 1


@pytest.mark.devices
def test_any_number_of_devices_gives_them(runs, examples):
    how = {"samples": SAMPLES, "batch_size": BATCH, "seed": 0, "devices": 4}
    found = vaejax.per_example(*vaejax.load(runs[0]), **how)
    np.testing.assert_array_equal(found.label, examples[0].label)
    for name in ("elbo", "kl", "nll", "nll_ess"):
        one, four = examples[0].values[name], found.values[name]
        np.testing.assert_allclose(four, one, rtol=1e-3, atol=1e-3)


def test_a_file_has_them(runs, examples, tmp_path, capsys):
    out = tmp_path / "a.npz"
    words = ("--samples", SAMPLES, "--batch-size", BATCH, "--out", tmp_path / "a.json")
    call("evaluate", runs[0], *words, "--per-example", out)
    assert "359 examples" in capsys.readouterr().out
    found = read_examples(out)
    assert found.about == examples[0].about
    assert found.about.digest == gather_facts(runs[0]).data["digest"]
    for name, each in examples[0].values.items():
        np.testing.assert_array_equal(found.values[name], each)
    np.testing.assert_array_equal(found.seen, examples[0].seen)
    wrong = refused(capsys, "evaluate", runs[0], "--per-example", tmp_path / "a.csv")
    assert "the name must end in .npz" in wrong
    wrong = refused(capsys, "evaluate", runs[0], "--per-example", tmp_path / "x/a.npz")
    assert "there is no folder" in wrong


def test_a_file_of_something_else_is_refused(examples, tmp_path):
    about = json.dumps(examples[0].about._asdict())
    sound = {"about": np.array(about), "index": np.arange(3), "seen": np.ones(3)}
    place = tmp_path / "a.npz"
    for entries, reason in (
        ({"x_train": np.ones(3)}, "holds no numbers of examples"),
        (sound | {"about": np.array("{")}, "holds no numbers of examples"),
        (sound | {"about": np.array('{"format": 9}')}, "holds no numbers of examples"),
        (sound | {"elbo": np.ones(2)}, "is damaged"),
        (sound | {"elbo": np.array(["a"] * 3)}, "is damaged"),
        ({"about": np.array(about)}, "is damaged"),
        ({"about": np.array([None], object)}, "is not a readable .npz"),
    ):
        np.savez(place, **entries)
        with pytest.raises(vaejax.InputError, match=reason):
            read_examples(place)
    np.savez(place, **sound)
    assert read_examples(place).values == {}


# Differences and their errors.


def test_a_paired_difference_is_that_of_scipy():
    rng = np.random.default_rng(0)
    hard = 10 * rng.normal(size=50)
    first, second = (hard + rng.normal(size=50) for _ in range(2))
    found, oracle = paired_difference(first, second), stats.ttest_rel(second, first)
    interval = oracle.confidence_interval(0.95)
    assert found.z == pytest.approx(oracle.statistic)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.count == 50
    apart = np.sqrt((first.var(ddof=1) + second.var(ddof=1)) / 50)
    assert found.error < apart / 5  # hard examples are hard for both


def test_a_difference_over_seeds_is_that_of_scipy():
    first, second = [1.0, 2.0, 4.0], [7.0, 7.5]
    found = welch_difference(first, second)
    oracle = stats.ttest_ind(second, first, equal_var=False)
    interval = oracle.confidence_interval(0.95)
    assert found.z == pytest.approx(oracle.statistic)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_equal_differences_have_no_error():
    ones = np.ones(5, np.float32)
    for found in (
        paired_difference(ones, 2 * ones),
        paired_difference(ones[:1], 2 * ones[:1]),
        paired_difference(ones, np.array([1, 2, 3, 4, np.inf], np.float32)),
        welch_difference([1, 1], [2, 2]),
        welch_difference([1], [2, 3]),
    ):
        assert found.value > 0
        assert (found.error, found.z, found.low) == (None, None, None)


def test_groups_of_seeds_have_differences(runs):
    """Three seeds of one setting and two of another, made of one run's files."""
    run = gather_facts(runs[0])

    def one(beta, seed, elbo, samples=0):
        e = run.evaluation
        values = [v._replace(value=elbo) for v in e.values if v.name == "elbo"]
        return run._replace(
            arguments={**run.arguments, "beta": beta, "seed": seed},
            evaluation=e._replace(values=tuple(values), samples=samples),
        )

    elbos = {1.0: [-30.0, -31.0, -33.0], 4.0: [-35.0, -36.0]}
    several = [one(b, s, e) for b, es in elbos.items() for s, e in enumerate(es)]
    groups = group_by_seed(several)
    assert [g.name for g in groups] == ["beta 1", "beta 4"]
    found = seed_differences(groups, several)
    assert found == {1: {"elbo": welch_difference(*elbos.values())}}
    # Numbers of other samples are other numbers; one seed has no deviation.
    others = [*several[:-1], one(4.0, 1, -36.0, samples=5)]
    assert seed_differences(group_by_seed(others), others) == {}
    assert seed_differences(group_by_seed(several[:-1]), several[:-1]) == {}


# Runs over the same examples.


def test_inputs_are_told_apart():
    x = jax.random.bernoulli(jax.random.key(1), 0.5, (3, 8, 8, 1)).astype(float)
    flipped = x.at[1, 2, 3, 0].set(1 - x[1, 2, 3, 0])
    mask = jax.numpy.ones_like(x)
    told = fingerprint({"x": x, "mask": mask})
    np.testing.assert_allclose(told, fingerprint({"x": x}), rtol=1e-5)
    for other in ({"x": flipped}, {"x": x, "mask": mask.at[1, 0, 0, 0].set(0)}):
        same = np.isclose(told, fingerprint(other), rtol=1e-3, atol=1e-3)
        assert same.tolist() == [True, False, True]


@pytest.mark.parametrize("binarize", ["dynamic", "static"])
def test_noise_of_another_seed_is_of_other_inputs(binarize):
    experiment = presets.vae(**TINY, binarize=binarize)
    state = first_state(experiment, parallel.make_mesh(1, 1))
    one, other = (
        vaejax.per_example(experiment, state, samples=0, batch_size=359, seed=seed)
        for seed in (0, 1)
    )
    assert same_inputs(one, other) == (binarize == "static")
    assert not np.array_equal(one.values["elbo"], other.values["elbo"])  # draws of z


@pytest.fixture(scope="module")
def compared(runs, examples, tmp_path_factory):
    """The comparison and its page; the first run has a file, the second has none."""
    kept(runs[0], examples[0])
    page = tmp_path_factory.mktemp("compare") / "page.html"
    found = vaejax.compare(*runs, out=page, quiet=True)
    (runs[0] / NAME).unlink()
    return found, page


def test_runs_are_compared_example_by_example(examples, compared):
    """The second is evaluated as the first one was, by its file."""
    found, page = compared
    record = found.record()
    assert record["paired"]["first"] == "a"
    assert record["paired"]["importance_samples"] == SAMPLES
    assert record["runs"][1]["card"]["settings"]["beta"] == 4.0
    for name, values in examples[0].values.items():
        wanted = paired_difference(values, examples[1].values[name])
        shown = record["paired"]["differences"]["b"][name]
        assert shown["difference"] == pytest.approx(wanted.value, rel=1e-5, abs=1e-6)
        if wanted.error:
            assert shown["standard_error"] == pytest.approx(wanted.error, rel=1e-5)
    in_page = Page(page)
    nll = record["paired"]["differences"]["b"]["nll"]
    for number in (nll["difference"], nll["standard_error"]):
        assert ("differences", number) in in_page.numbers
    assert "Each run minus a on the same 359 examples" in in_page.text
    assert "[Welch 1947]" not in in_page.text


def test_files_are_read_where_they_are_of_this(runs, examples, capsys):
    """Both have files: nothing is evaluated, and the numbers are those of the files."""
    moved = examples[1].values | {"elbo": examples[0].values["elbo"] + 100}
    kept(runs[0], examples[0])
    kept(runs[1], examples[1]._replace(values=moved))
    found = vaejax.compare(*runs, metrics=["elbo"])
    assert found.pairs.differences[1]["elbo"].value == pytest.approx(100)
    assert [line.name for line in found.paired_lines()] == ["elbo"]
    assert capsys.readouterr().err == ""
    run = gather_facts(runs[1])
    assert kept_examples(run, Wanted(samples=SAMPLES)) is not None
    assert kept_examples(run, Wanted(samples=2)) is None
    assert kept_examples(run, Wanted(split="train")) is None
    for changed in ({"step": 1}, {"preset": "iwae"}, {"input": "my.npz"}):
        kept(runs[1], examples[1], **changed)  # of another state, or of other data
        assert kept_examples(run, Wanted()) is None
    for each in runs:
        (each / NAME).unlink()


def test_other_inputs_do_not_pair(runs, examples, tmp_path, capsys):
    """Both files are of the first run's state, but for what the model was given."""
    copy = tmp_path / "copy"
    shutil.copytree(runs[0], copy)
    config = json.loads((copy / "config.json").read_text())
    assert config["arguments"]["binarize"] == "auto"
    config["arguments"] |= {"binarize": "dynamic"}
    (copy / "config.json").write_text(json.dumps(config))
    kept(runs[0], examples[0]._replace(seen=examples[0].seen + 1))
    call("compare", runs[0], copy, "--out", tmp_path / "page.html", "--json")
    said = capsys.readouterr()
    assert "are not given the same inputs" in said.err
    found = json.loads(said.out)
    assert found["paired"] is None
    assert "are not given the same inputs" in found["unpaired"]
    text = Page(tmp_path / "page.html").text
    assert "Not over the same examples" in text
    (runs[0] / NAME).unlink()


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_browser_shows_differences_on_a_phone(compared, tmp_path):
    read = "document.title = this.contentDocument.documentElement.scrollWidth"
    content = html.escape(compared[1].read_text("utf-8"))
    inner = f'<iframe width="390" onload="{read}" srcdoc="{content}"></iframe>'
    frame = tmp_path / "frame.html"
    frame.write_text(inner)
    dom, *found = browse(frame, tmp_path, 1400, "--dump-dom", "--hide-scrollbars")
    assert "<title>390</title>" in dom
    assert found == [[], []]


def test_tables_say_which_error_is_which(compared):
    each, table, paired, differences = commands_compare.comparison_parts(compared[0])
    assert "standard error over examples" in each
    assert "over the same 359 examples, 30 importance samples each" in paired
    found = compared[0].pairs.differences[1]["kl"]
    shown, error = (rounded(n, found.error) for n in found[:2])
    row = f"| b | kl | {shown} | {error} | "
    assert row in re.sub(" +", " ", differences)
    # A row for each run, and for each number that is no doubt about another.
    assert table.count("\n") == 2 + 2
    assert differences.count("\n") == 2 + len(("elbo", "distortion", "kl", "nll"))
