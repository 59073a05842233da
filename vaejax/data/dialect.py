"""The dialect of a CSV file: encoding, lines above the header, separator."""

import codecs
import csv
import gzip
import io
import itertools
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from vaejax.data.numerals import quoted
from vaejax.data.spec import Dialect
from vaejax.errors import InputError, require
from vaejax.runtime.storage import write_whole

Header = Literal["first", "none"]
Decimal = Literal["auto", ".", ","]
SEPARATORS = {"tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "\\t": "\t"}
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SAMPLE = 1000
Texts = np.ndarray
"""`[N]` of str as they are written, empty where nothing is."""


class Csv(NamedTuple):
    """The settings of reading tables; `auto` is found out from the file."""

    separator: str = "auto"
    decimal: str = "auto"
    encoding: str = "auto"
    header: str = "first"
    missing: tuple[str, ...] = ()
    """Texts that are holes in all columns, beside empty cells."""
    ignore: tuple[str, ...] = ()
    """Columns that are copied, not trained on."""


class Page(NamedTuple):
    """The rows of a file as texts."""

    dialect: Dialect
    preamble: str
    """Comment lines above the header, with their ends."""
    newline: str
    names: list[str]
    rows: list[list[str]]
    lines: list[int]
    """The number of the line where each row begins."""


class TextTable(NamedTuple):
    """A file's columns as texts, and how it is written."""

    page: Page
    cells: dict[str, Texts]

    @property
    def dialect(self) -> Dialect:
        """The dialect as found or given."""
        return self.page.dialect

    @property
    def trained(self) -> dict[str, Texts]:
        """The columns that are not ignored."""
        left_out = self.dialect.ignore
        return {n: c for n, c in self.cells.items() if n not in left_out}


def read_page(place: Path, asked: Csv) -> Page:
    """The rows of a file.

    Raises:
      InputError: it is no text, its encoding or separator cannot be told, or its rows
        have not as many fields as its header.
    """
    for name, known in (("decimal", get_args(Decimal)), ("header", get_args(Header))):
        value = asked._asdict()[name]
        require(value in known, name, value, f"one of {' '.join(known)}")
    text, encoding = decode_text(content(place), asked.encoding, str(place))
    preamble, body, told = above_header(text)
    separator = SEPARATORS.get(asked.separator, asked.separator)
    if separator == "auto":
        separator = told or separator_of(body, str(place))
    if len(separator) != 1 or separator in '"\r\n':
        raise InputError(
            f"--separator {asked.separator!r}: give one character, or tab, comma, "
            "semicolon or pipe"
        )
    rows, lines = split_rows(body, separator, preamble.count("\n"), str(place))
    check_comment(preamble, rows[0], separator, str(place))
    if asked.header == "none":
        names = [f"column_{n + 1}" for n in range(len(rows[0]))]
    else:
        names, rows, lines = rows[0], rows[1:], lines[1:]
    if not rows:
        raise InputError(f"{place} holds no rows: give a header and examples below it")
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise InputError(
            f"{place} needs a name of its own for each column: {quoted(twice[0])} "
            "occurs more than once (no header? say --header none)"
        )
    newline = "\r\n" if "\r\n" in body else "\n"
    dialect = Dialect(separator, ".", encoding, asked.header)
    dialect = dialect._replace(missing=asked.missing, ignore=asked.ignore)
    return Page(dialect, preamble, newline, names, rows, lines)


def content(place: Path) -> bytes:
    """The bytes of a file, decompressed where it is gzip."""
    try:
        data = place.read_bytes()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except FileNotFoundError:
        raise InputError(f"there is no file {place}") from None
    except (OSError, EOFError, zlib.error) as error:
        why = str(error).splitlines()[0] if str(error) else "truncated"
        raise InputError(f"{place} is not a readable CSV file: {why}") from error


def decode_text(data: bytes, encoding: str, where: str) -> tuple[str, str]:
    """The text, and its encoding: told, by its mark, UTF-8, or of Western Europe.

    Bytes that are neither UTF-8 nor text are refused, never replaced.
    """
    marked = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "")
    chosen = (marked or "utf-8") if encoding == "auto" else encoding
    try:
        text = data.decode(chosen)
    except LookupError:
        raise InputError(
            f"--encoding {encoding}: unknown; utf-8, utf-16, latin-1, cp1252, ..."
        ) from None
    except UnicodeDecodeError as error:
        text, chosen = _western(data, chosen, where, error, encoding == "auto")
    if re.search(r"[\x00-\x08\x0b\x0e-\x1f\x7f\ufffe]", text):
        raise InputError(
            f"{where} is not a readable CSV file: it holds control characters, which "
            "no text does; if it is UTF-16, say --encoding utf-16-le"
        )
    return text.removeprefix("\ufeff"), chosen


def _western(
    data: bytes, chosen: str, where: str, error: UnicodeDecodeError, guess: bool
) -> tuple[str, str]:
    """cp1252 where no byte above ASCII is a part of UTF-8; else an InputError."""
    if guess and chosen == "utf-8":
        known = data.decode("utf-8", "ignore")
        if known.isascii():
            try:
                return data.decode("cp1252"), "cp1252"
            except UnicodeDecodeError:
                pass
    line = data[: error.start].count(b"\n") + 1
    raise InputError(
        f"{where} is not {chosen} at line {line}: say how it is encoded, as in "
        "--encoding latin-1, or mend that byte"
    ) from None


def above_header(text: str) -> tuple[str, str, str]:
    """The comment lines (#) above the header, the rest, and the separator that a line
    `sep=;` names, as Excel reads it.
    """
    told, end = "", 0
    for line in io.StringIO(text, newline=""):
        named = re.fullmatch(r"sep=(.)", line.strip("\r\n"))
        if not named and not line.startswith("#"):
            break
        told = named[1] if named else told
        end += len(line)
    return text[:end], text[end:], told


def check_comment(
    preamble: str, header: Sequence[str], separator: str, where: str
) -> None:
    """InputError where the line above the header may be the header: it begins with #
    and has as many fields, or what is below has one field, which is empty.
    """
    above = preamble.splitlines()[-1:]
    fields = next(csv.reader(above, delimiter=separator), [])
    alike = len(fields) == len(header) > 1 or header == [""]
    if above and above[0].startswith("#") and alike:
        raise InputError(
            f"the line {quoted(above[0])} of {where} has as many fields as the rows: "
            "if it is the header, take away its #; if not, leave it out"
        )


def separator_of(body: str, where: str) -> str:
    """The separator by which header and rows have equally many fields, two or more.

    InputError where two have.
    """
    sample = "".join(itertools.islice(io.StringIO(body, newline=""), _SAMPLE))
    found = [sign for sign in ",;\t|" if _regular(sample, sign)]
    if len(found) > 1:
        listed = " or ".join(map(repr, found))
        raise InputError(
            f"fields of {where} may be separated by {listed}: say which by --separator"
        )
    if found:
        return found[0]
    header = body.split("\n", 1)[0]
    most = max(",;\t|", key=header.count)
    return most if header.count(most) else ","


def _regular(sample: str, separator: str) -> bool:
    try:
        rows = list(csv.reader(io.StringIO(sample, newline=""), delimiter=separator))
    except csv.Error:
        return False
    widths = {len(row) for row in rows if row}
    return len(widths) == 1 and widths.pop() > 1


def split_rows(
    body: str, separator: str, above: int, where: str
) -> tuple[list[list[str]], list[int]]:
    """Rows of equally many fields, and the lines where they begin; a blank line is an
    empty row.
    """
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=separator, strict=True)
    rows, lines, line = [], [], above + 1
    try:
        for row in reader:
            rows.append(row)
            lines.append(line)
            line = above + reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{where} is not a readable CSV file: line {line}: {error}"
        ) from error
    if not rows:
        raise InputError(f"{where} is not a readable CSV file: it is empty")
    width = len(rows[0])
    for number, row in enumerate(rows):
        if number and not row:
            rows[number] = [""] * width
        elif len(row) != width or not row:
            raise InputError(_ragged(lines[number], row, width, separator, where))
    return rows, lines


def _ragged(
    line: int, row: Sequence[str], width: int, separator: str, where: str
) -> str:
    return (
        f"{where} is not a readable CSV file: line {line} has {len(row)} fields and "
        f"the first {width}, separated by {separator!r}: mend that line, say "
        "--separator, or begin lines above the header with #"
    )


def write_page(page: Page, rows: Sequence[Sequence[str]], out: Path) -> None:
    """Writes rows like the file that was read; compressed if `out` ends in .gz."""
    text = io.StringIO(newline="")
    text.write(page.preamble)
    sign = page.dialect.separator
    writer = csv.writer(text, delimiter=sign, lineterminator=page.newline)
    writer.writerows([page.names] if page.dialect.header == "first" else [])
    writer.writerows(rows)
    data = text.getvalue().encode(page.dialect.encoding)
    if out.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    write_whole(out, data)
