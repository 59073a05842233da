"""What docstrings cite has an entry, and presets print theirs."""

import re
from pathlib import Path

import pytest

import vaejax
from tests.test_scripts import call, refused
from vaejax.presets import PRESETS
from vaejax.presets.citations import bibtex, cited, entries

ROOT = Path(vaejax.__file__).parent


def test_citations_are_found():
    text = "by [Kingma & Welling 2014, eq. 3; beta: Higgins et\n al. 2017] in May 2014"
    assert cited(text)[:2] == ["KingmaWelling2014", "HigginsEtAl2017"]
    assert cited("[Chen et al. 2018b, eq. 6]") == ["ChenEtAl2018b"]
    assert cited("[Loaiza-Ganem & Cunningham 2019]") == ["LoaizaGanemCunningham2019"]


def test_whatever_the_package_cites_has_an_entry():
    known = entries()
    for path in ROOT.rglob("*.py"):
        for bracket in re.findall(r"\[([^\[\]]*)\]", path.read_text()):
            for key in cited(bracket):
                assert key in known, f"{path.name} cites {key}"


@pytest.mark.parametrize("key", sorted(entries()))
def test_entries_are_whole(key):
    entry = entries()[key]
    assert entry.count("{") == entry.count("}")
    assert entry.startswith("@") and entry.endswith("\n}")
    for field in ("title", "author", "year"):
        assert re.search(rf"^  {field} = {{+\S", entry, re.MULTILINE), field
    if key != "vaejax":  # the key is the year and the names, or the first of three
        assert re.search(r"year = {(\d+)}", entry).group(1) in key[-5:]
        names = re.search(r"author = {(.*)}", entry).group(1).split(" and ")
        assert len(names) > 2 if "EtAl" in key else len(names) <= 2


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_cites_the_library_and_its_source(name):
    text = bibtex(name)
    assert text.startswith("@software{vaejax,")
    assert len(re.findall("^@", text, re.MULTILINE)) >= 2


def test_train_prints_what_to_cite(capsys):
    call("train", "vaegan", "--cite")
    said = capsys.readouterr().out
    assert "@software{vaejax," in said and "@inproceedings{LarsenEtAl2016," in said
    refused(capsys, "train", "vaegam", "--cite")
