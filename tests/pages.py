"""The pages of the documentation, and the blocks of code in them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", "RESULTS.md"] + sorted(
    path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")
)
MARKDOWN = MarkdownIt("commonmark").enable("table")


class Block(NamedTuple):
    """A fenced block, and why it is not run, where a comment above it says so."""

    language: str
    text: str
    line: int
    not_run: str = ""

    @property
    def commands(self) -> list[str]:
        """Its lines, with those that go on joined, without comments and empty ones."""
        joined = re.sub(r"\s*\\\n\s*", " ", self.text)
        lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.splitlines()]
        return [line for line in lines if line]


def read(page: str) -> str:
    return (ROOT / page).read_text()


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, also those within lists."""
    return list(found(read(page)))


def found(text: str) -> Iterator[Block]:
    reason = ""
    for token in MARKDOWN.parse(text):
        if token.type == "fence":
            assert token.map
            yield Block(token.info.strip(), token.content, token.map[0] + 1, reason)
        if token.type != "html_block":
            reason = ""
        elif note := re.search(r"<!-- not run: (.+?) -->", token.content, re.DOTALL):
            reason = note[1]


def script_of(command: str) -> tuple[str, list[str]] | None:
    """Name and words of `python scripts/NAME.py words`, wherever in a command."""
    told = re.search(r"\bpython scripts/(\w+)\.py\b(.*)", command)
    return (told[1], words_of(told[2])) if told else None


def words_of(text: str) -> list[str]:
    """As a shell splits them, up to where the command ends."""
    words = shlex.split(text, comments=True)
    ends = [
        number for number, word in enumerate(words) if word in ("&&", "||", "|", "&")
    ]
    return words[: min(ends, default=len(words))]
