"""The papers that docstrings cite, as BibTeX.

A docstring cites [Kingma & Welling 2014, eq. 3]; `references.bib` has the entry under
the key KingmaWelling2014, and that of [Larsen et al. 2016] under LarsenEtAl2016. A
letter after the year tells papers apart whose authors and years are alike.
"""

import re
from importlib.resources import files

from vaejax.errors import InputError, nearest

CITATION = re.compile(
    r"[A-Z][\w'-]+(?: et al\.| & [A-Z][\w'-]+)? (?:19|20)\d\d[a-z]?\b",
    re.ASCII,
)


def bibtex(preset: str) -> str:
    """The entries of vaejax and of what a preset's docstring cites, as BibTeX.

    Raises:
      InputError: no such preset.
    """
    from vaejax.presets import PRESETS

    if preset not in PRESETS:
        raise InputError(f"no preset {preset!r}: {nearest(preset, PRESETS)}")
    known = entries()
    keys = ("vaejax", *cited(PRESETS[preset].__doc__ or ""))
    return "\n\n".join(known[key] for key in keys)


def cited(text: str) -> list[str]:
    """The keys of what a text cites, each once, in the text's order."""
    # A docstring may break a line within a citation.
    found = CITATION.findall(" ".join(text.split()))
    return list(dict.fromkeys(map(citation_key, found)))


def citation_key(citation: str) -> str:
    """Kingma & Welling 2014 is KingmaWelling2014."""
    return re.sub(r"\W", "", citation.replace("et al.", "EtAl"))


def entries() -> dict[str, str]:
    """The entries of `references.bib` by their keys; a blank line ends each."""
    text = (
        files("vaejax.presets").joinpath("references.bib").read_text(encoding="utf-8")
    )
    _, *blocks = text.strip().split("\n\n")
    return {block.partition("{")[2].partition(",")[0]: block for block in blocks}
