"""CSV as Europe, spreadsheets and instruments write it, without any training."""

import gzip
import json

import numpy as np
import pytest

from vaejax import InputError
from vaejax.apply.tables import numbered_path, open_holey
from vaejax.data import Spec, open_dataset
from vaejax.data.dialect import Csv
from vaejax.data.remarks import table_introduction

T = [round(20 + 0.37 * n, 2) for n in range(40)]
"""Temperatures with decimals."""
AUTO = Csv()


def opened(tmp_path, data, name="t.csv", asked=AUTO, **settings):
    """The data set of a file with this content: text or bytes."""
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return open_dataset(f"csv:{path}", table=asked, **settings)


def lines(rows, separator=",", above="", head="t,n"):
    """A file of rows of texts."""
    body = [separator.join(row) for row in rows]
    return above + "\n".join([head.replace(",", separator), *body]) + "\n"


def pairs(decimal="."):
    return [(str(t).replace(".", decimal), str(3 * n)) for n, t in enumerate(T)]


def raw_mean(dataset):
    """Means of all rows, in the columns' own units."""
    spec = dataset.spec
    splits = [dataset.split(name)["x"] for name in spec.sizes]
    return np.mean(np.concatenate(splits) * spec.scale + spec.mean, 0)


MEAN = [np.mean(T), np.mean(3 * np.arange(40))]
GERMAN = lines(pairs(","), ";", head="t\u00f6,n")
FILES = {
    "comma": lines(pairs()).encode(),
    "semicolon": lines(pairs(), ";").encode(),
    "tab": lines(pairs(), "\t").encode(),
    "pipe": lines(pairs(), "|").encode(),
    "european": lines(pairs(","), ";").encode(),
    "tab_comma": lines(pairs(","), "\t").encode(),
    "quoted_comma": lines([(f'"{a}"', b) for a, b in pairs(",")]).encode(),
    "bom": GERMAN.encode("utf-8-sig"),
    "latin": GERMAN.encode("latin-1"),
    "utf16": GERMAN.encode("utf-16"),
    "gzip": gzip.compress(lines(pairs()).encode()),
    "comments": lines(pairs(), above="# device 7, 2020\n# a;b\n").encode(),
    "excel": lines(pairs(","), ";", above="sep=;\r\n").encode(),
    "crlf": lines(pairs()).replace("\n", "\r\n").encode(),
    "percent": lines([(f"{a} %", b) for a, b in pairs()]).encode(),
    "trailing": lines([(*p, "") for p in pairs()], head="t,n,").encode(),
}


@pytest.mark.parametrize("name", FILES)
def test_a_table_is_the_same_numbers_however_it_is_written(name, tmp_path):
    dataset = opened(tmp_path, FILES[name])
    np.testing.assert_allclose(raw_mean(dataset), MEAN, rtol=1e-6)
    assert [c.kind for c in dataset.spec.columns] == ["real", "real"]


@pytest.mark.parametrize("name", FILES)
def test_a_filled_table_is_written_in_the_dialect_that_it_was_read_in(name, tmp_path):
    """With no hole the file comes back byte for byte, but for needless quotes."""
    spec = opened(tmp_path, FILES[name]).spec
    holey = open_holey(tmp_path / "t.csv", spec)
    out = tmp_path / ("o.csv.gz" if name == "gzip" else "o.csv")
    holey.write(holey.x, out)
    before, after = FILES[name], out.read_bytes()
    if name == "gzip":
        before, after = gzip.decompress(before), gzip.decompress(after)
    assert after == before


def test_numbers_are_grouped_in_thousands():
    from vaejax.data.numerals import number

    assert number("1.234.567,5", ",") == number("1,234,567.5") == 1234567.5
    assert number("1 234,5", ",") == number("1'234.5") == 1234.5
    for text in ("1,23,4", "0,123", "12,3456", "1,234'567", "1_0", "0x1", "nan", ""):
        assert number(text) is None


@pytest.mark.parametrize(
    ("separator", "cells"),
    [(";", ["12,345", "23,456"]), (",", ['"12,345"', '"23,456"']), (";", ["1.234"])],
)
def test_what_may_be_thousands_or_decimals_is_refused_until_it_is_said(
    separator, cells, tmp_path
):
    data = lines([(cell, "1") for cell in cells * 20], separator)
    with pytest.raises(InputError, match="which may be") as raised:
        opened(tmp_path, data)
    assert "--decimal" in str(raised.value)
    bare = cells[0].strip('"')
    for sign in ".,":
        spec = opened(tmp_path, data, asked=Csv(decimal=sign)).spec
        wanted = bare.replace(sign, "!").replace("," if sign == "." else ".", "")
        assert spec.columns[0].limits[0] == float(wanted.replace("!", "."))


def test_texts_are_not_holes_and_NA_in_numbers_is(tmp_path):
    rows = [(["NA", "DE", "None"][n % 3], ["NA", "nan", "", "1.5", "2"][n % 5])
            for n in range(60)]  # fmt: skip
    spec = opened(tmp_path, lines(rows)).spec
    assert spec.columns[0].values == ("DE", "NA", "None")
    assert spec.columns[0].missing == 0
    assert spec.columns[1].kind == "real"
    assert spec.columns[1].missing == pytest.approx(0.6)
    spec = opened(tmp_path, lines(rows), asked=Csv(missing=("NA",))).spec
    assert spec.columns[0].values == ("DE", "None")
    assert spec.columns[0].missing == pytest.approx(1 / 3)
    assert Spec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    holey = open_holey(tmp_path / "t.csv", spec)  # --missing holds there, too
    assert holey.mask[:, 0].sum() == 40
    text = "\n".join(table_introduction(spec))
    assert "33.3%" in text
    assert "DE, None" in text


def test_filled_numbers_have_the_digits_of_their_column(tmp_path):
    times = 1700000000 + np.cumsum(np.random.default_rng(0).integers(1, 5, 60)) + 0.5
    cells = ["" if n % 5 == 0 else f"{t:.1f}" for n, t in enumerate(times)]
    whole = ["" if n % 7 == 0 else f"{n * n}" for n in range(60)]
    days = ["" if n % 6 == 0 else f"2020-01-{1 + n % 28:02d}" for n in range(60)]
    rows = list(zip(cells, whole, days, strict=True))
    spec = opened(tmp_path, lines(rows, head="t,n,d")).spec
    holey = open_holey(tmp_path / "t.csv", spec)
    holey.write(np.full(holey.x.shape, 0.1234, np.float32), tmp_path / "o.csv")
    found = [r.split(",") for r in (tmp_path / "o.csv").read_text().split("\n")[1:-1]]
    wanted = spec.mean[0] + 0.1234 * spec.scale[0]
    assert abs(float(found[0][0]) - wanted) < 1e-5 * spec.scale[0]
    assert found[0][1] == str(round(spec.mean[1] + 0.1234 * spec.scale[1]))
    assert found[0][2].startswith("2020-01-1")
    assert found[1] == list(rows[1])


def test_draws_of_timestamps_differ(tmp_path):
    """float32 draws 1e-5 deviations apart are different texts."""
    rows = [(str(1700000000 + 3 * n + 0.5), "" if n % 4 else "1.5") for n in range(40)]
    rows[0] = ("", "2.5")
    spec = opened(tmp_path, lines(rows)).spec
    holey = open_holey(tmp_path / "t.csv", spec)
    texts = set()
    for step in range(20):
        x = np.full(holey.x.shape, 1e-5 * step, np.float32)
        holey.write(x, tmp_path / "o.csv")
        texts.add((tmp_path / "o.csv").read_text().split("\n")[1].split(",")[0])
    assert len(texts) == 20


@pytest.mark.parametrize(
    ("cells", "settings", "fragment"),
    [
        (["007", "7", "7", "008"], {}, ("007", "008", "7")),
        (["1", "1.0", "2", "3"], {"categories": ("t",)}, ("1", "1.0", "2", "3")),
        (["NA", "NaN", "1", "1"], {"categories": ("t",)}, ("1", "NA", "NaN")),
        (["0", "1", "1.0", "0"], {}, ("0", "1")),
    ],
)
def test_texts_of_digits_stay_texts_and_categories_are_obeyed(
    cells, settings, fragment, tmp_path
):
    rows = [(cell, str(n)) for n, cell in enumerate(cells * 10)]
    dataset = opened(tmp_path, lines(rows), **settings)
    assert dataset.spec.columns[0].values == fragment
    holey = open_holey(tmp_path / "t.csv", dataset.spec)
    number = {text: n for n, text in enumerate(fragment)}
    wanted = [number.get(cell, number.get("1")) for cell in cells]
    assert holey.x[:4, 0].tolist() == wanted


@pytest.mark.parametrize(
    ("data", "fragment"),
    [
        (lines([("9007199254740993", "1"), ("5", "2")] * 20), "2^53"),
        (lines([("12,5", "1"), ("2,5", "2")] * 9, ";") + "1.5;x\n", "12,5|1.5|decimal"),
        (lines([(f"{n}.1.2020", "1") for n in range(1, 30)]), "2020-01-31"),
        (lines([(f"{n} kg", "1") for n in range(1, 30)]), "units"),
        (lines([(f"0{n}", "1") for n in range(1, 30)]), "leading zeros"),
        ("a b c\n" + "".join(f"{n} {n} 3\n" for n in range(30)), "blanks"),
        ("a,b|c\n1,2|3\n", "--separator"),
        ("made by X\na,b\n1,2\n", "begin lines above the header with #"),
        ("a,b\n1,2\n3\n", "line 3 has 1 fields"),
        ("a,b\nNA,2\nNA,3\n", "nothing but 'NA'"),
        ('a,b\n"1,2\n3,4\n', "not a readable CSV"),
        (b"t\n\xc3\xb6\n\xf6\n", "--encoding"),
        (b"t\n1\x00\n", "control characters"),
        (b"\x1f\x8b\x08\x00", "not a readable CSV"),
        ("a,a\n1,2\n", "name of its own"),
        ("#id,x\na,2\nb,3\n", "take away its #"),
        ('#\n""\n1\n2\n', "take away its #"),
        (lines([("2020-01-31", "1"), ("2020-02-31", "2")] * 9), "'2020-02-31'"),
        ("a,b\n1," + "x" * 100_000 + "\n2,3\n", "the text"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_short_line(data, fragment, tmp_path):
    with pytest.raises(InputError) as raised:
        opened(tmp_path, data)
    message = str(raised.value)
    assert any(part in message for part in fragment.split("|"))
    assert len(message) < 600
    assert "\n" not in message


def test_a_run_says_how_it_read_and_what_is_odd(tmp_path):
    dataset = opened(tmp_path, FILES["european"])
    assert "separator ';' (found), decimal ',' (found)" in dataset.spec.remarks[0]
    rows = [(str(n), f"{n * n % 7}.5") for n in range(40)]
    found = opened(tmp_path, lines(rows, head=",t")).spec.remarks
    assert any("counts the rows" in line and "--ignore ''" in line for line in found)
    found = opened(tmp_path, lines(pairs(), head="20.63,")).spec.remarks
    assert any("--header none" in line for line in found)
    asked = Csv(header="none", ignore=("column_2",))
    spec = opened(tmp_path, lines(pairs(), head="20.63,"), asked=asked).spec
    assert [c.name for c in spec.columns] == ["column_1"]
    assert sum(spec.sizes.values()) == 41
    holey = open_holey(tmp_path / "t.csv", spec)
    holey.write(holey.x, tmp_path / "o.csv")
    assert (tmp_path / "o.csv").read_text() == lines(pairs(), head="20.63,")


ISO = "2020-01-31"
ONE_ZONE = "without it, as 2020-01-31T12:30:00"


@pytest.mark.parametrize(
    ("cells", "remedy"),
    [
        (["01.01.2020", "31.12.2020"], ISO),
        (["01/02/2020", "12/31/2020", "unknown"], ISO),
        (["2020/1/2", "2020/11/30"], ISO),
        (["01.02.20", "28.02.20"], ISO),
        (["1 Jan 2020", "2. M\u00e4rz 2020"], ISO),
        ([f"{1 + n % 28:02d}.{1 + n // 28:02d}.2020" for n in range(60)], ISO),
        (["2020-01-01T12:00:00Z", "2020-01-02T12:00:00Z"], ONE_ZONE),
        (["2020-01-01 12:00+02:00", "2020-01-02 12:00:00.5-0500"], ONE_ZONE),
    ],
)
def test_dates_that_are_not_read_as_such_are_no_categories(cells, remedy, tmp_path):
    data = lines([(cell, str(n)) for n, cell in enumerate(cells * 20)])
    with pytest.raises(InputError, match=r"column 't' .*--categories") as raised:
        opened(tmp_path, data)
    assert remedy in str(raised.value)
    assert "zeros" not in str(raised.value)
    spec = opened(tmp_path, data, categories=("t",)).spec
    assert spec.columns[0].values == tuple(sorted(set(cells)))


@pytest.mark.parametrize("cells", [["1.10.0", "1.2.3"], ["10.0.0.1", "10.0.0.2"]])
def test_versions_and_addresses_are_no_dates(cells, tmp_path):
    rows = [(cell, str(n)) for n, cell in enumerate(cells * 20)]
    assert opened(tmp_path, lines(rows)).spec.columns[0].values == tuple(cells)


@pytest.mark.parametrize("sign", " ^:")
def test_fields_that_another_sign_separates_are_no_category(sign, tmp_path):
    data = lines([(str(n % 3), str(n % 2), "u") for n in range(40)], sign, head="a,b,c")
    with pytest.raises(InputError) as raised:
        opened(tmp_path, data)
    assert f"say --separator {sign!r}, or list the column" in str(raised.value)
    spec = opened(tmp_path, data, asked=Csv(separator=sign)).spec
    assert [column.name for column in spec.columns] == ["a", "b", "c"]
    whole = opened(tmp_path, data, categories=(f"a{sign}b{sign}c",)).spec
    assert len(whole.columns[0].values) == 6


def test_only_runs_of_blanks_and_names_alike_are_fields(tmp_path):
    rows = [f"{n % 3}  {n % 2}.5\n" for n in range(40)]
    with pytest.raises(InputError, match="write one tab or comma"):
        opened(tmp_path, "a b\n" + "".join(rows))
    words = "".join(["light blue\n", "dark blue\n"] * 20)
    values = opened(tmp_path, "colour\n" + words).spec.columns[0].values
    assert values == ("dark blue", "light blue")


@pytest.mark.parametrize("blank", ["", " ", "\u00a0", "\u202f"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_shares_with_a_decimal_comma_are_numbers(blank, quote, tmp_path):
    """In a file of commas they are quoted."""
    rows = [(f"{quote}{t}{blank}%{quote}", n) for t, n in pairs(",")]
    dataset = opened(tmp_path, lines(rows, "," if quote else ";"))
    assert [column.form for column in dataset.spec.columns] == ["percent", "whole"]
    np.testing.assert_allclose(raw_mean(dataset), MEAN, rtol=1e-6)


@pytest.mark.parametrize("cell", ["0,5", "0,5 %", "0,5\u00a0%"])
def test_a_quoted_decimal_comma_among_points_has_a_hint_at_the_sign(cell, tmp_path):
    percent = "%" * ("%" in cell)
    rows = [(f"{t}{percent}", n) for t, n in pairs()]
    for data in (
        lines([(f'"{cell}"', "3"), *rows]),
        lines([(f'"{cell}"', t) for t, _ in pairs()]),
    ):
        with pytest.raises(InputError, match="--decimal ,"):
            opened(tmp_path, data)


def numbered(*cells):
    """Forty rows: a number, a whole number, and these texts in turn."""
    return [(f"{n}.5", str(3 * n), cells[n % len(cells)]) for n in range(40)]


@pytest.mark.parametrize(
    ("head", "cells"),
    [
        ("0.5,0,f", "fm"),  # numbers over numbers, a text over texts
        ("7,0,f", "fm"),
        ("0.5,0,q", "fm"),  # a text that no other row has
        ("-1,0,q", "fm"),
        ("0.5,7,2020-02-01", [f"2020-01-0{n}" for n in range(1, 8)]),
    ],
)
def test_a_row_is_not_taken_for_names(head, cells, tmp_path):
    data = lines(numbered(*cells), head=head)
    with pytest.raises(InputError, match=r"reads as a row.*--header none"):
        opened(tmp_path, data)
    spec = opened(tmp_path, data, asked=Csv(header="none")).spec
    assert sum(spec.sizes.values()) == 41
    assert [column.name for column in spec.columns] == [
        "column_1",
        "column_2",
        "column_3",
    ]


def test_a_row_of_texts_alone_is_not_taken_for_names(tmp_path):
    rows = [("abc"[n % 3], "uv"[n % 2]) for n in range(40)]
    with pytest.raises(InputError, match=r"reads as a row.*--header none"):
        opened(tmp_path, lines(rows, head="a,v"))
    assert len(opened(tmp_path, lines(rows, head="a,w")).spec.columns) == 2


def test_wavelengths_are_names(tmp_path):
    rows = [(f"{n}.5", str(n * n), f"0.{n}1", "uv"[n % 2]) for n in range(40)]
    head = "400.5,401,401.5,sample"
    spec = opened(tmp_path, lines(rows, head=head)).spec
    assert [column.name for column in spec.columns] == head.split(",")
    assert any("--header none" in line for line in spec.remarks)


@pytest.mark.parametrize(
    ("head", "warned"),
    [
        ("t,n,sex", False),
        ("2019,2020,sex", True),  # years
        ("t,n,f", True),
        ("t,2020-01-31,sex", False),  # a day over numbers
    ],
)
def test_names_that_may_be_meant_are_kept(head, warned, tmp_path):
    spec = opened(tmp_path, lines(numbered(*"fm"), head=head)).spec
    assert [column.name for column in spec.columns] == head.split(",")
    assert any("--header none" in line for line in spec.remarks) == warned


def test_a_cross_may_be_called_as_its_column(tmp_path):
    rows = [("apple" if n % 3 else "", "pear" if n % 2 else "") for n in range(40)]
    spec = opened(tmp_path, lines(rows, head="apple,pear")).spec
    assert [column.values for column in spec.columns] == [("apple",), ("pear",)]


def test_a_table_to_fill_in_another_dialect_is_not_misread(tmp_path):
    spec = opened(tmp_path, lines(pairs())).spec
    same = tmp_path / "same.csv"
    same.write_text(lines(pairs(), ";"))
    np.testing.assert_allclose(open_holey(same, spec).x.mean(), 0, atol=0.2)
    for cell in ("12,345", "12,5"):
        same.write_text(lines([(cell, "3"), ("", "6")], ";"))
        with pytest.raises(InputError, match="decimal sign"):
            open_holey(same, spec)


def test_no_cell_is_written_that_is_not_a_number(tmp_path):
    spec = opened(tmp_path, lines([*pairs(), ("", "5")])).spec
    holey = open_holey(tmp_path / "t.csv", spec)
    with pytest.raises(InputError, match="out of the range"):
        holey.write(np.full(holey.x.shape, np.nan), tmp_path / "o.csv")
    assert not (tmp_path / "o.csv").exists()


def test_numbered_names_keep_their_whole_suffix(tmp_path):
    assert numbered_path(tmp_path / "a.b.csv.gz", "01").name == "a.b-01.csv.gz"
    assert numbered_path(tmp_path / "a.npz", "2").name == "a-2.npz"


def test_a_run_that_is_older_reads_its_table_as_it_did(tmp_path):
    """Its columns have three fields and no dialect: NA was a hole in texts, too."""
    rows = [(["NA", "DE", "FR"][n % 3], str(n)) for n in range(60)]
    spec = opened(tmp_path, lines(rows), asked=Csv(missing=("NA",))).spec
    fields = json.loads(json.dumps(spec.to_json()))
    fields["columns"] = [column[:3] for column in fields["columns"]]
    older = Spec.from_json({k: v for k, v in fields.items() if k not in ("dialect",)})
    holey = open_holey(tmp_path / "t.csv", older)
    assert holey.mask[:, 0].sum() == 40
    assert (holey.x == open_holey(tmp_path / "t.csv", spec).x).all()


@pytest.mark.parametrize(
    ("asked", "flag"),
    [
        (Csv(separator="ab"), "--separator"),
        (Csv(decimal=";"), "--decimal"),
        (Csv(encoding="none"), "--encoding"),
        (Csv(header="second"), "--header"),
        (Csv(ignore=("x",)), "no column 'x'"),
        (Csv(ignore=("t", "n")), "--ignore"),
    ],
)
def test_settings_of_csv_that_cannot_be_meant(asked, flag, tmp_path):
    with pytest.raises(InputError, match=flag):
        opened(tmp_path, lines(pairs()), asked=asked)


def test_settings_of_csv_are_refused_elsewhere():
    with pytest.raises(InputError, match="--decimal"):
        open_dataset("digits", table=Csv(decimal=","))
