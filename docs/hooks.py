"""What MkDocs does beside its own: repository paths, notebooks, and math as MathML.

The site has pages from outside of docs/, too. Every file is known by its path in the
repository, so that MkDocs itself resolves the links among them, and a link to a file
that is not there fails the build.
"""

import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from markdown import Extension, Markdown
from markdown.blockprocessors import build_block_parser
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[1]
OUTSIDE = (
    "README.md",
    "RESULTS.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "LICENSE",
    "Makefile",
    "constraints.txt",
    "setup.cfg",
    "notebooks/README.md",
    "notebooks/*.ipynb",
    "scripts/*.*",
    "tests/**/*.py",
    "vaejax/**/*.py",
)
# A function's name wants a space before what it is of, unless that is in brackets.
FUNCTION = re.compile(
    r"(?<!<msub>)(?<!<msup>)(?<!<msubsup>)(?<!<munder>)(<mi>(?:det|exp|log|max|min)</mi>)"
    r"(?!<mo[^>]*>(?:&#x00028;|&#x0005B;|&#x0007B;)|</)"
)


class Notebook(File):
    """A notebook as a page."""

    def is_documentation_page(self) -> bool:
        return True


class GitHubLists(Extension):
    """Lists that nest by two or three spaces, as on a git host, not by four."""

    def extendMarkdown(self, md: Markdown) -> None:
        md.tab_length = 2
        md.parser = build_block_parser(md)  # whose parts each keep a copy of it


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts the extension before those of mkdocs.yml, which add to the parser."""
    extensions: list[Any] = config.markdown_extensions
    extensions.insert(0, GitHubLists())
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Files by their paths in the repository, and those from outside of docs/."""
    for file in list(files):
        if file.src_dir == config.docs_dir:
            files.remove(file)
            path = f"docs/{file.src_uri}"
            renamed = File(
                path, str(ROOT), config.site_dir, False, dest_uri=file.dest_uri
            )
            renamed.inclusion = file.inclusion
            files.append(renamed)
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            add(files, path.relative_to(ROOT).as_posix(), config)
    return files


def add(files: Files, path: str, config: MkDocsConfig) -> None:
    """A file from outside of docs/; pages become HTML."""
    stem, _, kind = path.rpartition(".")
    place = f"{stem.lower()}.html" if kind in ("md", "ipynb") else path
    make = Notebook if kind == "ipynb" else File
    file = make(path, str(ROOT), config.site_dir, False, dest_uri=place)
    files.append(file)
    if kind == "ipynb":
        file.content_string, pictures = exported(ROOT / path)
        for name, content in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))


def exported(notebook: Path) -> tuple[str, dict[str, bytes]]:
    """The Markdown of a notebook, and its pictures by their names in it."""
    names = {"unique_key": notebook.stem, "output_files_dir": f"{notebook.stem}_files"}
    text, found = MarkdownExporter().from_filename(str(notebook), names)
    return text, found["outputs"]


def on_page_content(text: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Formulas as MathML, which browsers draw without a script."""
    del config, files

    def mathml(found: re.Match[str]) -> str:
        tag, latex = found[1], html.unescape(found[2])
        made = convert(latex, display="block" if tag == "div" else "inline")
        if "\\" in made:
            raise PluginError(f"{page.file.src_uri}: no MathML for {latex}")
        return FUNCTION.sub(r'\1<mspace width="0.167em"/>', made)

    pattern = r'<(div|span) class="arithmatex">\\[\[(](.*?)\\[\])]</\1>'
    return re.sub(pattern, mathml, text, flags=re.DOTALL)
