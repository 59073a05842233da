"""The documentation as a site: its links lead somewhere, and it loads nothing."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.pages import MARKDOWN, PAGES, ROOT, read

TARGETS = {"a": "href", "img": "src"}


def tokens(page):
    """All tokens of a page, with those within lines."""
    for token in MARKDOWN.parse(read(page)):
        yield token
        yield from token.children or ()


def links(page):
    """What a page links to and shows, without what is on the web."""
    attributes = {"link_open": "href", "image": "src"}
    for token in tokens(page):
        if token.type in attributes:
            yield str(token.attrs[attributes[token.type]])
        if token.type in ("html_inline", "html_block"):
            yield from re.findall(r'(?:src|href)="([^"]+)"', token.content)


def anchors(page):
    """The names of a page's headings, as a git host makes them."""
    found, parsed = set(), MARKDOWN.parse(read(page))
    for number, token in enumerate(parsed):
        if token.type == "heading_open":
            children = parsed[number + 1].children or ()
            text = "".join(each.content for each in children).lower()
            slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
            same = sum(name == slug or name[:-2] == slug for name in found)
            found.add(f"{slug}-{same}" if same else slug)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_are_there(page):
    for link in links(page):
        if re.match(r"(https?|mailto):", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page}: {link}"
        if anchor:
            assert target.suffix == ".md", f"{page}: {link}"
            name = os.path.relpath(target, ROOT)
            assert anchor in anchors(name), f"{page}: {link}: {anchors(name)}"


def test_anchors_are_those_of_a_git_host(tmp_path):
    page = tmp_path / "a.md"
    page.write_text("# `beta`, a *weight*: 2.0\n\n## b c\n\n## b c\n")
    assert anchors(page) == {"beta-a-weight-20", "b-c", "b-c-1"}


class Loaded(HTMLParser):
    """What a page loads while it is shown, and how many of each tag it has."""

    LOADS = {"script", "img", "iframe", "source", "video", "audio", "embed", "object"}
    RELATIONS = {"stylesheet", "preconnect", "preload", "prefetch", "icon"}

    def __init__(self, text):
        super().__init__()
        self.loads, self.tags = [], {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags[tag] = self.tags.get(tag, 0) + 1
        if tag in self.LOADS:
            found = (given.get(name) for name in ("src", "data", "srcset"))
            self.loads += [each for each in found if each]
        relations = set((given.get("rel") or "").split())
        if tag == "link" and relations & self.RELATIONS:
            self.loads.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, built by MkDocs: a warning fails it."""
    if not all(map(find_spec, ("material", "mkdocstrings_handlers", "latex2mathml"))):
        pytest.skip("needs pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_nothing_is_loaded_from_afar(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        for link in Loaded(page.read_text()).loads:
            assert not re.match(r"(\w+:)?//", link), f"{page}: {link}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)[\"' ]*(https?:)?//", sheet.read_text())


def built(site, page):
    """The content of the site's page of a file of the repository."""
    path = Path(page.removeprefix("docs/").lower()).with_suffix(".html")
    return (site / path).read_text().partition("<article")[2].partition("</article")[0]


@pytest.mark.parametrize("page", [p for p in PAGES if not p.startswith("docs/api")])
def test_pages_are_read_as_on_a_git_host(site, page):
    """Python-Markdown and CommonMark differ in lists: here they must agree."""
    content = built(site, page)
    there = Loaded(content).tags
    kinds = [token.type for token in tokens(page)]
    for tag, kind in {
        "li": "list_item",
        "table": "table",
        "ol": "ordered_list",
    }.items():
        assert there.get(tag, 0) == kinds.count(f"{kind}_open"), f"{tag} of {page}"
    assert content.count("<pre>") == kinds.count("fence") + kinds.count("code_block")


def test_formulas_are_mathml(site):
    assert "<math" in built(site, "docs/index.md")
    for page in site.rglob("*.html"):
        text = re.sub(r"<(pre|code|script).*?</\1>", "", page.read_text(), flags=re.S)
        assert "arithmatex" not in text, page
        assert "$" not in text.partition("<article")[2], page
