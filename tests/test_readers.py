"""Properties of the readers of CSV and npz: what was written, or InputError."""

import gzip
import io
import math
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vaejax import InputError
from vaejax.apply.tables import open_holey
from vaejax.data import open_dataset
from vaejax.data.dialect import Csv
from vaejax.data.numerals import number, text_of
from vaejax.data.schema import numbers_of, read_csv

cheap = settings(deadline=None, max_examples=100, derandomize=True)
NAMES = st.text(st.characters(codec="latin-1", categories=("L", "N", "P", "Zs")))
NAMES = NAMES.filter(lambda name: not name.startswith("#"))  # a comment
WORDS = ("NA", "None", "null", "\u00e9t\u00e9", "a,b", "x;y", 'q"q', "u\nv", "-", "t 1")
REALS = st.floats(-1e6, 1e6).map(lambda v: round(v, 3))
TRIPLES = st.integers(100, 99_999).map(lambda v: (10 * v + 1) / 1000)
"""Three decimals, as 12.341: with a comma, and alone, these may be thousands."""
WHOLE = st.integers(-(2**50), 2**50)


@st.composite
def frames(draw):
    """A table of decimals (r, d), whole numbers (w) and texts (t), a tenth empty."""
    rows, kinds = (
        draw(st.integers(22, 30)),
        draw(st.text("rwtd", min_size=1, max_size=4)),
    )
    names = draw(st.lists(NAMES, min_size=4, max_size=4, unique=True))
    cells = {"r": REALS, "d": TRIPLES, "w": WHOLE, "t": st.sampled_from(WORDS[:2])}
    if draw(st.booleans()):
        cells["t"] = st.sampled_from(WORDS)
    columns = {}
    for name, kind in zip(names, kinds, strict=False):
        hole = st.integers(0, 9).map(lambda n: n == 0)
        drawn = st.tuples(hole, cells[kind]).map(lambda p: None if p[0] else p[1])
        found = draw(st.lists(drawn, min_size=rows, max_size=rows))
        columns[name] = pd.Series(found, dtype=object)
    return pd.DataFrame(columns), kinds


@st.composite
def dialects(draw):
    """How a file is written: for `to_csv`, its encoding, and whether by gzip."""
    separator = draw(st.sampled_from(",;\t|"))
    decimal = draw(st.sampled_from(".,"))
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    how = {"sep": separator, "decimal": decimal, "lineterminator": newline}
    return how, encoding, draw(st.booleans())


def written(frame, how, encoding, packed):
    """The bytes of a CSV file, by pandas, decimals written by `repr`."""
    cells = frame.map(
        lambda v: repr(v).replace(".", how["decimal"]) if isinstance(v, float) else v
    )
    data = cells.to_csv(index=False, **how).encode(encoding)
    return gzip.compress(data) if packed else data


def read(data, asked):
    """A table and its columns from the bytes of a file, and the path."""
    folder = Path(tempfile.mkdtemp(prefix="vaejax-"))
    path = folder / "t.csv"
    path.write_bytes(data)
    spec = open_dataset(f"csv:{path}", table=asked).spec
    return path, spec


def values_of(path, spec, asked):
    """Texts, or numbers as they were read."""
    table = read_csv(path, asked)
    x = numbers_of(table, spec.columns, "t.csv")
    return {
        column.name: [
            None if math.isnan(v) else column.values[int(v)] if column.values else v
            for v in x[:, place]
        ]
        for place, column in enumerate(spec.columns)
    }


def same(found, wanted):
    """Whether a cell is what was written: 1 and 1.0, "1" and 1 are the same."""
    if wanted is None or found is None:
        return found is wanted
    if isinstance(wanted, str):
        return found == wanted
    if isinstance(found, str):
        found = number(found.replace(",", "."))
    return found == wanted


@cheap
@given(frames(), dialects(), st.booleans())
def test_a_table_is_read_as_it_was_written_or_refused(drawn, dialect, told):
    """By pandas in any dialect: no number becomes a text, no decimal moves."""
    (frame, kinds), (how, encoding, packed) = drawn, dialect
    asked = Csv(how["sep"], how["decimal"], encoding) if told else Csv()
    try:
        path, spec = read(written(frame, how, encoding, packed), asked)
        found = values_of(path, spec, asked)
    except InputError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 1500
        assert "different texts" not in str(error) or "t" in kinds
        assert not told or "--separator" not in str(error)
        return
    assert spec.dialect
    left_out = spec.dialect.ignore
    assert list(found) == [name for name in frame.columns if name not in left_out]
    for name, kind in zip(frame.columns, kinds, strict=False):
        if name in left_out:
            assert frame[name].isna().all()
            continue
        assert all(map(same, found[name], frame[name])), (name, found[name])
        texts = {v for v in frame[name] if v is not None}
        if kind != "t" and len(texts - {0, 1}) > 0:
            column = next(c for c in spec.columns if c.name == name)
            assert not column.values


@cheap
@given(frames(), dialects())
def test_a_table_without_new_numbers_is_copied_cell_by_cell(drawn, dialect):
    (frame, _), (how, encoding, packed) = drawn, dialect
    asked = Csv(how["sep"], how["decimal"], encoding)
    try:
        path, spec = read(written(frame, how, encoding, packed), asked)
    except InputError:
        return
    holey = open_holey(path, spec)
    holey.write(holey.x, path.with_name("o.csv"))
    before, after = (read_csv(p, asked) for p in (path, path.with_name("o.csv")))
    assert list(before.cells) == list(after.cells)
    for place, column in enumerate(spec.columns):
        old, new = before.cells[column.name], after.cells[column.name]
        seen = holey.mask[:, place]
        assert (old[seen] == new[seen]).all()
        assert all(text.strip() for text in new)


SOUND = "t;s\n" + "".join(f"{n},5;{chr(233 - n % 2)}\n" for n in range(12))


@cheap
@given(st.data(), st.sampled_from(["utf-8", "utf-16", "latin-1"]), st.booleans())
def test_damaged_files_are_refused_or_read_never_a_traceback(data, encoding, packed):
    """Bytes changed, dropped, put in or cut off."""
    sound = SOUND.encode(encoding)
    sound = bytearray(gzip.compress(sound) if packed else sound)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(sound) - 1))
        some = data.draw(st.binary(max_size=3))
        sound[place : place + data.draw(st.integers(0, 3))] = some
    if data.draw(st.booleans()):
        del sound[data.draw(st.integers(0, len(sound))) :]
    try:
        _, spec = read(bytes(sound), Csv())
    except InputError as error:
        assert "\n" not in str(error)
        return
    assert all(math.isfinite(v) for c in spec.columns for v in c.limits)


@cheap
@given(st.binary(max_size=60) | st.text('0129,;.\n"#% -ab').map(str.encode))
@example(b"")
@example(b"\xef\xbb\xbf")
@example(b"\xff\xfe")
@example(b"# only\n# comments\n")
@example(b"sep=;\n")
def test_any_bytes_are_a_table_or_refused(data):
    for asked in (Csv(), Csv(header="none"), Csv(";", ",", "latin-1")):
        try:
            read(data, asked)
        except InputError as error:
            assert "\n" not in str(error)


@cheap
@given(st.floats(-1e9, 1e9), st.sampled_from(".,"), st.sampled_from(["", " ", "'"]))
def test_a_number_is_itself_in_any_grouping(value, decimal, group):
    text = f"{value:,.3f}"
    other = group or (("," if decimal == "." else ".") if group is not None else "")
    text = text.replace(",", "g").replace(".", decimal).replace("g", other)
    assert number(text, decimal) == float(f"{value:.3f}")


@cheap
@given(
    st.floats(-1e12, 1e12),
    st.floats(1e-6, 1e12),
    st.sampled_from(".,"),
    st.sampled_from(["", "percent", "whole", "whole.0"]),
)
def test_a_number_is_written_to_what_its_scale_resolves(value, scale, decimal, form):
    """To half a unit of the 7th digit of the scale, or 2^-53 of the number."""
    from vaejax.data.spec import Column

    text = text_of(value, Column("t", form=form), scale, decimal)
    found = number(text.removesuffix("%"), decimal)
    error = max(1e-6 * scale, 2.0**-52 * abs(value))
    error = 0.5 if form.startswith("whole") else error
    assert found is not None
    assert abs(found - value) <= error


ARRAYS = hnp.arrays(
    st.sampled_from([np.uint8, bool, np.int64, np.float32, np.float16, "U2", "S2"]),
    hnp.array_shapes(min_dims=0, max_dims=5, max_side=6),
)


@cheap
@given(
    st.dictionaries(
        st.sampled_from(["x_train", "y_train", "x_test", "mask_train", "columns", "z"]),
        ARRAYS,
        max_size=4,
    )
)
def test_arrays_of_an_npz_are_a_data_set_or_refused(arrays):
    folder = Path(tempfile.mkdtemp(prefix="vaejax-"))
    np.savez(folder / "t.npz", **arrays)
    try:
        dataset = open_dataset(f"npz:{folder / 't.npz'}")
    except InputError as error:
        assert "\n" not in str(error)
        return
    x = arrays["x_train"]
    total = sum(n for split, n in dataset.spec.sizes.items() if split != "test")
    assert total in (len(x), len(x) - max(1, round(0.1 * len(x))))
    assert np.isfinite(dataset.split("train")["x"]).all()


@cheap
@given(st.data())
def test_a_damaged_npz_is_refused_or_read(data):
    file = io.BytesIO()
    x = np.random.default_rng(0).normal(size=(12, 2))
    np.savez_compressed(file, x_train=x)
    sound = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(sound) - 1))
        sound[place] ^= data.draw(st.integers(1, 255))
    if data.draw(st.booleans()):
        del sound[data.draw(st.integers(0, len(sound))) :]
    path = Path(tempfile.mkdtemp(prefix="vaejax-")) / "t.npz"
    path.write_bytes(sound)
    try:
        open_dataset(f"npz:{path}")
    except InputError as error:
        assert "\n" not in str(error)
