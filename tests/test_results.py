"""Rows of published numbers: their files, the page made of them, and their runs."""

import dataclasses
import functools
import importlib.util
import json
import math
import re
import sys
import tomllib

import pytest

from tests.pages import ROOT, blocks
from tests.studies import house, speed
from tests.test_scripts import call, refused
from tests.test_site import anchors
from vaejax.errors import InputError
from vaejax.presets import PRESETS
from vaejax.reproduction import execute, pages
from vaejax.reproduction.catalogue import (
    LABELS,
    Catalogue,
    Measurement,
    Plan,
    Row,
    Section,
    catalogue,
    described,
)
from vaejax.reproduction.execute import MEASURED, Places, reproduce
from vaejax.reproduction.measured import (
    MeasuredTable,
    MeasuredTables,
    keep_measured,
    read_measured,
)
from vaejax.reproduction.measures import MEASURES
from vaejax.reproduction.outcome import (
    Outcome,
    keep_outcome,
    printed_number,
    read_outcome,
    verdict,
)

ROWS = ROOT / "results" / "rows"
ROW = Row("a", "a number", run="a", quantity="nll", published="10.0")


@pytest.fixture(scope="module")
def made():
    """The content of both files, generated in memory."""
    path = ROOT / "docs" / "make_results.py"
    specification = importlib.util.spec_from_file_location("make_results", path)
    maker = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(maker)
    return maker.generated()


def test_the_page_and_the_readme_are_those_of_the_rows(made):
    assert {path.name for path in made} == {"RESULTS.md", "README.md"}
    for path, text in made.items():
        assert path.read_text("utf-8") == text, f"{path.name}: run make results"


def test_every_file_is_shown_with_the_commit_that_made_it(made):
    page = made[ROOT / "RESULTS.md"]
    every = catalogue()
    for path in ROWS.glob("*.json"):
        if path.stem in every.rows:
            found = read_outcome(ROWS, path.stem)
            (line,) = (x for x in page.splitlines() if f"<br>`{path.stem}` |" in x)
            assert f"| {pages.shown(found)} |" in line
        else:
            found = read_measured(ROWS, path.stem)
            assert f"({found.made})" in page
        assert found.commit[:7] in page, f"{path.name} does not say what made it"


def test_links_of_the_readme_lead_to_the_sections(made):
    targets = re.findall(r"\(RESULTS\.md#([^)]+)\)", made[ROOT / "README.md"])
    assert len(targets) > 3
    assert {*targets} <= anchors("RESULTS.md")
    titles = [group.title for group in catalogue().groups.values()]
    assert {pages.anchor(title) for title in titles} <= anchors("RESULTS.md")


def test_rows_are_described_in_full():
    every = catalogue()
    for row in every.rows.values():
        plan = every.plans[row.run]
        assert plan.measure in MEASURES, row.name
        assert plan.preset in PRESETS or plan.trained in every.plans or not plan.preset
        assert not plan.first or plan.first in every.plans
        assert row.label in LABELS
        if row.published:
            printed_number(row.published)
            assert row.label != "own" and (row.paper or row.table), row.name


def outcome(mean, **more):
    return Outcome(
        row="a", budget="full", mean=mean, seeds=more.pop("seeds", 1), **more
    )


@pytest.mark.parametrize(
    ("row", "found", "said"),
    [
        # published 10.0: rounding hides .05; without errors nothing else is allowed
        ({}, outcome(10.04), "reproduced"),
        ({}, outcome(10.06), "not reached, by 0.06"),
        ({}, outcome(9.9), "better, by 0.1"),
        ({"better": "higher"}, outcome(9.9), "not reached, by 0.1"),
        ({"better": "higher"}, outcome(10.5), "better, by 0.5"),
        ({"better": "equal"}, outcome(9.5), "differs by 0.5"),
        # four seeds with deviation .3: a standard error of .15, so .30 + .05
        ({}, outcome(10.34, seeds=4, deviation=0.3), "reproduced"),
        ({}, outcome(10.36, seeds=4, deviation=0.3), "not reached, by 0.36"),
        # one seed with standard error .3, and .4 of the paper: 2 * .5 + .05
        ({"published": "10.0 ± .4"}, outcome(11.04, error=0.3), "reproduced"),
        ({"published": "10.0 ± .4"}, outcome(11.06, error=0.3), "not reached, by 1.1"),
        # 10 as printed may be 9.5
        ({"published": "10"}, outcome(9.5), "reproduced"),
        ({"published": ""}, outcome(10.0), ""),
    ],
)
def test_verdicts(row, found, said):
    assert verdict(dataclasses.replace(ROW, **row), found) == said


def test_printed_numbers_are_read_as_they_are_printed():
    assert printed_number("1.12 ± .04") == pytest.approx((1.12, 0.04, 0.005))
    assert printed_number(".57") == pytest.approx((0.57, 0, 0.005))
    assert printed_number("-104") == pytest.approx((-104, 0, 0.5))
    for text in ("about 104", "1,120", "1e3", "1.12±.04", "1.12 ±", "", "nan"):
        with pytest.raises(InputError, match="no published number"):
            printed_number(text)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (outcome(103.4178, error=0.2), "103.42 ± 0.20"),
        (outcome(0.98083, seeds=3, deviation=0.0023), "0.9808 ± 0.0023"),
        (outcome(82.804, seeds=3, deviation=12.3), "83 ± 12"),
        (outcome(0.0357, seeds=3, deviation=0.00996), "0.0357 ± 0.0100"),
        (outcome(100.7631), "100.76"),
    ],
)
def test_numbers_are_shown_to_the_second_digit_of_their_spread(found, text):
    assert pages.shown(found) == text


def test_costs_are_in_units_that_are_read():
    assert [*map(pages.cost_words, (None, 0.00191, 107.2, 720, 9000))] == [
        "",
        "0.00191 s",
        "107 s",
        "12 min",
        "2.5 h",
    ]


def group(**rows):
    return Catalogue({"g": Section("g", "A group", "", rows, {})}, {})


def test_rows_of_a_source_share_a_line_which_names_their_cells():
    shared = {"run": "a", "quantity": "nll", "published": "1.0", "label": "S"}
    paper = {"paper": "A 2019", "table": "Table 1", "protocol": "five seeds"}
    rows = {
        "a": Row("a", "x", cell="x", reason="too short", **paper, **shared),
        "b": Row("b", "y", cell="z|z", reason="too short", **paper, **shared),
        "c": Row("c", "w", "a", "nll"),
    }
    (line,) = pages.sources(group(**rows).groups["g"])
    cells = "A 2019, Table 1, `b` (z|z) and rows whose titles are their cells"
    assert line == f"- {cells}. Protocol: five seeds."
    reasons = pages.reasons(group(**rows).groups["g"])
    assert reasons[-1] == "- `a`, `b`: too short."


def test_a_row_that_was_not_run_is_shown_and_counted(tmp_path):
    missed = Row("b", "b", run="b", quantity="nll", published="9.0 ± .1", label="S")
    keep_outcome(tmp_path, outcome(10.3, seeds=4, deviation=0.3, commit="c" * 40))
    page = pages.results_page(group(a=ROW, b=missed), tmp_path)
    cells = "10.30 ± 0.30 | reproduced | 4 | full |  |  | `ccccccc` |"
    assert f"| a number<br>`a` | 10.0 [own] | {cells}" in page
    assert "| b<br>`b` | 9.0 ± .1 [S] | not run |" in page
    assert "| [A group](#a-group) | 2 | 2 | 1 | 1 |" in page


def test_a_file_without_a_row_is_refused(tmp_path):
    (tmp_path / "stray.json").write_text("{}")
    with pytest.raises(InputError, match=r"stray\.json is of no row"):
        pages.results_page(group(a=ROW), tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "{}",
        "[1]",
        '{"format": 1, "row": "a", "budget": "full", "mean": "1", "seeds": 1}',
        '{"format": 1, "row": "a", "budget": "full", "mean": NaN, "seeds": 1}',
        '{"format": 1, "row": "a", "budget": "full", "mean": 1.0, "seeds": 0}',
        '{"format": 1, "row": "b", "budget": "full", "mean": 1.0, "seeds": 1}',
        '{"format": 2, "row": "a", "budget": "full", "mean": 1.0, "seeds": 1}',
        '{"format": 1, "row": "a", "budget": "full", "mean": 1.0, "seeds": 1, "x": 1}',
    ],
)
def test_a_damaged_row_is_refused_in_a_line(content, tmp_path):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError) as refusal:
        read_outcome(tmp_path, "a")
    assert "a.json" in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        {"tables": [{"columns": ["a"], "rows": [["1", "2"]]}]},
        {"tables": [{"columns": ["a"], "rows": [[1]]}]},
        {"tables": [{"columns": ["a"]}]},
        {"tables": [{"columns": ["a"], "rows": [["1"]], "x": ""}]},
        {"tables": [], "commit": 3},
        {"tables": [], "mean": "3"},
    ],
)
def test_a_damaged_measurement_is_refused_in_a_line(content, tmp_path):
    text = content if isinstance(content, str) else json.dumps({"format": 1} | content)
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=r"a\.json is damaged"):
        read_measured(tmp_path, "a")


def test_a_measurement_is_shown_as_it_was_kept(tmp_path):
    table = MeasuredTable(["a|b", "n"], [["x", "1.5"], ["", "-2%"]], "Words:")
    measured = MeasuredTables((table,), "c" * 40, "changed", "2 cores", "today", "fast")
    keep_measured(tmp_path, "m", measured)
    assert read_measured(tmp_path, "m") == measured
    one = Measurement(
        "m", "Speed", "make it", "About.", readme="how fast", reference="1"
    )
    every = Catalogue({"g": Section("g", "A group", "", {}, {"m": one})}, {})
    page = pages.results_page(every, tmp_path)
    lines = "Words:\n\n| a\\|b | n |\n| --- | --: |\n| x | 1.5 |\n|  | -2% |\n"
    assert f"### Speed\n\nAbout.\n\n{lines}" in page
    assert "Made by `make it` (ccccccc, changed, 2 cores, today)." in page
    assert "| how fast | 1 | [fast](RESULTS.md#a-group) |" in pages.readme_table(
        every, tmp_path
    )


def test_a_readme_without_its_marks_is_refused():
    with pytest.raises(InputError, match="no table between"):
        pages.with_table("# vaejax\n", "| a |")


def test_the_list_has_every_row(capsys):
    call("reproduce", "list")
    printed = capsys.readouterr().out
    every = catalogue()
    for name in (*every.rows, *every.measurements):
        assert re.search(rf"\b{name}\b", printed), name


def test_names_that_are_no_rows_are_refused(capsys):
    assert "quadrants" in refused(capsys, "reproduce", "quadrant")
    assert "kill.py kills_games" in refused(capsys, "reproduce", "kills_games")
    assert "replicas.py" in refused(capsys, "reproduce", "speed")
    wanted = refused(capsys, "reproduce", "imputation_mean_red")
    assert "--tables" in wanted


def test_the_row_of_the_guide_is_one():
    (text,) = (
        b.text for b in blocks("docs/howto/reproduce.md") if b.language == "toml"
    )
    content = tomllib.loads(text)
    (plan,) = described(Plan, content["runs"])
    (row,) = described(Row, content["rows"])
    assert plan.at("truncated")["epochs"] == 100 and row.run == plan.name
    assert row.label in LABELS and printed_number(row.published).value == 89.9


def test_over_stands_for_several():
    content = {"a_{n}_{w}": {"over": {"n": [1, 2], "w": ["x", "y"]}, "title": "{w}{n}"}}
    rest = {"run": "r", "quantity": "nll"}
    rows = [*described(Row, {name: {**f, **rest} for name, f in content.items()})]
    assert [(row.name, row.title) for row in rows] == [("a_1_x", "x1"), ("a_2_y", "y2")]
    (plan,) = described(Plan, {"p": {"over": {"n": [3]}, "settings": {"k": "{n}"}}})
    assert plan.settings == {"k": 3}


TINY = {
    "dataset": "digits",
    "hidden": (8,),
    "latents": 2,
    "batch_size": 360,
    "epochs": 2,
}


@pytest.fixture(scope="module")
def tiny():
    """A row of two seeds, and the places of one that was made."""
    plan = Plan("tiny", "vae", TINY, {"epochs": 1}, seeds=2)
    row = Row("tiny", "negative ELBO", "tiny", "-elbo", published="30.0")
    return row, Catalogue({}, {"tiny": plan})


@pytest.fixture(scope="module")
def first(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    places = Places(folder / "runs", folder / "rows")
    return places, reproduce(*tiny, places)


def test_a_row_is_the_mean_over_its_seeds(first):
    places, found = first
    kept = read_outcome(places.results, "tiny")
    assert kept == dataclasses.replace(found, settings=kept.settings)
    one, two = found.values
    assert one != two
    assert found.mean == (one + two) / 2
    assert found.deviation == pytest.approx(abs(one - two) / math.sqrt(2))
    assert found.standard_error == pytest.approx(abs(one - two) / 2)
    assert (kept.settings["epochs"], found.budget, found.error) == (2, "full", None)
    assert found.data["name"] == "digits" and found.seconds > 0
    for seed, value in enumerate(found.values):
        run = places.home / "tiny" / f"seed={seed}"
        evaluation = json.loads((run / "evaluation.json").read_text())
        assert value == -evaluation["elbo"]


def test_the_same_row_gives_the_same_digits(tiny, first, tmp_path):
    again = reproduce(*tiny, Places(tmp_path / "runs", tmp_path / "rows"))
    assert again.values == first[1].values


def test_what_was_done_is_not_done_again_and_what_was_cut_resumes(
    tiny, first, monkeypatch
):
    places, found = first
    trained = []

    def noted(experiment, workdir, **more):
        trained.append(workdir.name)
        return train(experiment, workdir, **more)

    train = execute.train
    monkeypatch.setattr(execute, "train", noted)
    (places.results / "tiny.json").unlink()
    assert reproduce(*tiny, places).values == found.values
    assert trained == []
    (places.home / "tiny" / "seed=1" / MEASURED.format("tiny")).unlink()
    assert reproduce(*tiny, places).values == found.values
    assert trained == ["seed=1"]


def test_a_measure_that_changed_is_made_again(tiny, first):
    row, every = tiny
    plan = dataclasses.replace(every.plans["tiny"], options={"num": 5})
    path = first[0].home / "tiny" / "seed=0" / MEASURED.format("tiny")
    reproduce(row, Catalogue({}, {"tiny": plan}), first[0], seeds=1)
    assert json.loads(path.read_text())["how"]["options"] == {"num": 5}


def test_settings_that_changed_are_not_measured_on_the_old_run(tiny, first):
    row, every = tiny
    plan = dataclasses.replace(every.plans["tiny"], settings=TINY | {"latents": 3})
    with pytest.raises(InputError, match="another configuration: latents 2"):
        reproduce(row, Catalogue({}, {"tiny": plan}), first[0], seeds=1)


@pytest.mark.devices
def test_another_number_of_devices_agrees_within_the_standard_error(
    tiny, tmp_path, monkeypatch
):
    places = Places(tmp_path / "runs", tmp_path / "rows")
    eight = reproduce(*tiny, places, seeds=1)
    train = functools.partial(execute.train, devices=1)
    monkeypatch.setattr(execute, "train", train)
    one = reproduce(*tiny, Places(tmp_path / "one", tmp_path / "rows"), seeds=1)
    assert (eight.device[0], one.device[0]) == ("8", "1")
    assert abs(one.mean - eight.mean) < one.error


def test_a_second_stage_is_trained_on_its_own_seed_of_the_first(tmp_path):
    """The first stage is trained before it, once; neither is trained again, and the
    row names the first stage, not its folder. A fourth seed is of the first of three.
    """
    codes = {"width": 6, "inner": 4, "blocks": 1, "codes": 8, "code_channels": 3}
    codes |= {"dataset": "digits", "likelihood": "gaussian_fixed", "epochs": 1}
    sizes = {"layers": 1, "width": 8, "heads": 2, "epochs": 1}
    plans = {
        "codes": Plan("codes", "vqvae", codes, {"epochs": 1}),
        "tokens": Plan(
            "tokens", "code_transformer", sizes, {"epochs": 1}, first="codes"
        ),
    }
    row = Row("tokens", "of a code", "tokens", "bits_per_dim")
    places = Places(tmp_path / "runs", tmp_path / "rows")
    every = Catalogue({}, plans)
    bench = execute.Bench(every, places, "truncated")
    works = bench.works(plans["tokens"], range(4))
    for seed, work in enumerate(works):  # of three first stages
        run = places.home / "codes-truncated" / f"seed={seed % 3}"
        assert work.settings["dataset"] == f"latents:{run}"
    once = {"seeds": 1, "budget": "truncated"}
    found = reproduce(row, every, places, **once)
    assert found.settings["dataset"] == "latents:codes"
    assert found.data["name"] == "latents:codes-truncated/seed=0"
    steps = sorted(places.home.glob("*/seed=0/metrics.jsonl"))
    times = [path.stat().st_mtime_ns for path in steps]
    assert reproduce(row, every, places, **once).values == found.values
    assert times == [path.stat().st_mtime_ns for path in steps] and len(times) == 2
    with pytest.raises(ValueError, match="leave out together"):
        Plan("a", "code_transformer", {"dataset": "digits"}, first="codes")


def test_a_study_writes_its_ratios(tmp_path, capsys):
    script = tmp_path / "program.py"
    script.write_text(
        "import sys\n"
        "for factor in (1, 2, 30): print('examples_per_s', factor * int(sys.argv[1]))\n"
    )
    words = ["speed_vae", "2", "--batch-sizes", "5", "7", "--out", str(tmp_path)]
    for name, factor in (("fast", ""), ("slow", "0")):
        command = f"{sys.executable} {script} {{batch}}0{factor}"
        words += ["--program", name, command]
    speed.main(words)
    found = read_measured(tmp_path, "speed_vae")
    rounds, ratios = found.tables
    assert rounds.rows[0] == ["5", "1", "100", "1,000", "0.10"]
    assert ratios.rows[1] == ["slow", "7", "0.10 to 0.10, median 0.10"]
    assert "| slow | 7 |" in capsys.readouterr().out
    assert found.date and len(found.commit) == 40


def test_the_shape_of_the_code_is_within_its_aims(tmp_path):
    house.main(["--no-frames", "--out", str(tmp_path)])
    (table,) = read_measured(tmp_path, "house").tables
    shape = {row[0]: row[1] for row in table.rows}
    assert shape["circles of imports"] == "none"
    assert int(shape["lines of README"]) <= 120
    assert int(shape["lines of a file: median / max"].split(" / ")[1]) <= 300


def test_every_preset_says_why_it_is_right_and_has_a_number(monkeypatch):
    """Its tests are there, and so is an outcome of its rows, or a figure in words."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    make_families = importlib.import_module("make_families")
    known = make_families.truths()
    assert known.keys() == PRESETS.keys()
    for name, one in known.items():
        assert one["tests"], name
        for test in one["tests"]:
            file, _, function = test.partition("::")
            code = (ROOT / "tests" / file).read_text("utf-8")
            assert f"def {function}(" in code, f"{name}: no {test}"
        assert make_families.numbers(one), f"{name}: none of its rows has run"


@pytest.mark.parametrize(
    ("name", "kept"),
    [("mnist", "mnist"), ("latents:/a/b/run/seed=0", "latents:run/seed=0")],
)
def test_a_row_does_not_say_where_its_machine_keeps_data(name, kept):
    assert execute.without_place(name) == kept
