"""The pictures in a folder and their labels, by names of folders and files.

    PATH/*.png                 pictures without labels
    PATH/CLASS/*.png           pictures with labels
    PATH/train/CLASS/*.png     and PATH/test/..., and perhaps PATH/validation/...

Nothing depends on where the folder is, nor on the order in which a disk lists it.
"""

import hashlib
import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vaejax.data.splits import TEST_SHARE
from vaejax.errors import InputError

ENDINGS = (
    *(".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp"),
    *(".jpe", ".jfif", ".avif", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm", ".tga"),
)
"""Ends of names that are pictures, in either case."""
SYSTEM = {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "icon\r"}
"""What operating systems leave in folders, beside names that start with a dot."""
SPLITS = {name: name for name in ("train", "test", "validation")} | {
    "val": "validation",
    "valid": "validation",
}


class Entry(NamedTuple):
    """A picture in a folder."""

    name: str
    """From the folder on, with slashes."""
    label: str
    """The name of its class; empty where there are no classes."""


class Listing(NamedTuple):
    """The pictures of each split by name, and lines about what else there is."""

    splits: Mapping[str, Sequence[Entry]]
    remarks: tuple[str, ...]


def listing(root: Path) -> Listing:
    """The pictures in a folder, each split in the order of their names."""
    folders, files, other = entries_of(root)
    splits = splits_among(folders, files, root)
    if splits:
        parts = {split: class_entries(root / name) for split, name in splits.items()}
    else:
        parts = {"all": class_entries(root)}
    remarks = [line for _, lines in parts.values() for line in lines]
    if splits and other:
        remarks.append(left_out(other, root))
    found = {
        split: [e._replace(name=f"{splits[split]}/{e.name}") for e in entries]
        if splits
        else entries
        for split, (entries, _) in parts.items()
    }
    check_labelled_alike(found, root)
    if not splits:
        found = split_by_name(found["all"], root)
    return Listing(found, tuple(remarks))


def entries_of(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """Names of folders, of pictures and of other files, in order; links are followed.

    InputError where it is no folder that can be read.
    """
    try:
        inside = sorted(os.scandir(folder), key=lambda entry: plain_name(entry.name))
    except FileNotFoundError:
        raise InputError(f"there is no folder {printable(str(folder))}") from None
    except NotADirectoryError:
        raise InputError(
            f"{printable(str(folder))} is a file: give its folder"
        ) from None
    except OSError as error:
        raise InputError(
            f"cannot read {printable(str(folder))}: {error.strerror}"
        ) from None
    folders, files, other = [], [], []
    for entry in inside:
        if entry.name.startswith(".") or entry.name.lower() in SYSTEM:
            continue
        kind = kind_of_entry(entry)
        known = entry.name.lower().endswith(ENDINGS)
        if kind == "folder":
            folders.append(entry.name)
        elif known and kind != "other":
            files.append(entry.name)
        else:
            other.append(entry.name)
    return folders, files, other


def kind_of_entry(entry: os.DirEntry[str]) -> str:
    """`folder`, `file`, `link` to nothing, or `other`, as a pipe; links count as what
    they lead to.
    """
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
    except OSError:  # a link to itself
        return "link"
    return "link" if entry.is_symlink() else "other"


def splits_among(
    folders: Sequence[str], files: Sequence[str], root: Path
) -> dict[str, str]:
    """Folders that are splits, by the split; empty where they are classes or absent.

    InputError where it cannot be told.
    """
    found = {name: SPLITS[name] for name in folders if name in SPLITS}
    others = [name for name in folders if name not in SPLITS]
    splits = {split: name for name, split in found.items()}
    both = {"train", "test"} <= splits.keys()
    if "train" not in splits or (others and not both):
        return {}
    where = printable(str(root))
    if len(splits) < len(found):
        raise InputError(f"{where} has the folders {listed_names(found)}: keep one")
    if not both:
        raise InputError(
            f"{where} has a folder train and no folder test: make one, or open "
            f"folder:{where}/train, of which a tenth is held out"
        )
    if others or files:
        raise InputError(
            f"{where} has the folders train and test, and beside them "
            f"{listed_names([*others, *files])}: keep the splits alone"
        )
    return splits


def class_entries(root: Path) -> tuple[list[Entry], list[str]]:
    """The pictures of one split, and lines about what is left out."""
    folders, files, other = entries_of(root)
    remarks = [left_out(other, root)] if other else []
    entries = []
    for label in folders:
        inside, names, rest = entries_of(root / label)
        check_not_deeper(root, label, inside)
        check_utf8(root / label)
        entries += [Entry(f"{label}/{name}", plain_name(label)) for name in names]
        if rest:
            remarks.append(left_out(rest, root / label))
        if not names:
            remarks.append(
                f"{printable(str(root / label))} holds no pictures: no class"
            )
    if entries and files:
        raise InputError(
            f"{printable(str(root))} has pictures ({listed_names(files)}) beside "
            f"folders of pictures ({listed_names(folders)}): move them into a folder, "
            "whose name is their label"
        )
    entries = entries or [Entry(name, "") for name in files]
    if not entries:
        raise InputError(
            f"{printable(str(root))} holds no pictures: give a folder of files that "
            f"end in {', '.join(ENDINGS[:8])}, ..., or of folders of such"
        )
    return entries, remarks


def check_not_deeper(root: Path, label: str, inside: Sequence[str]) -> None:
    """InputError where pictures are in folders of a class's folder."""
    for name in inside:
        folders, files, _ = entries_of(root / label / name)
        if folders or files:
            where = printable(str(root / label / name))
            raise InputError(
                f"{where} is a folder in a class's folder: labels are the names of "
                f"the folders in {printable(str(root))}; move its pictures up into "
                f"{printable(label)}, or open folder:{printable(str(root / label))}"
            )


def check_utf8(folder: Path) -> None:
    """InputError where a folder's name, which is a label, is no text."""
    try:
        folder.name.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"the name of {printable(str(folder))} is not UTF-8: rename it"
        ) from None


def check_labelled_alike(splits: Mapping[str, Sequence[Entry]], root: Path) -> None:
    """InputError where some splits have classes and others have none."""
    bare = [split for split, entries in splits.items() if not entries[0].label]
    if bare and len(bare) < len(splits):
        raise InputError(
            f"{printable(str(root))}: the pictures of {', '.join(bare)} are in no "
            "folders of classes, those of the other splits are: make them alike"
        )


def split_by_name(entries: Sequence[Entry], root: Path) -> dict[str, list[Entry]]:
    """Training and test: of each class those are held out whose names' digests are the
    least, so that other pictures of the folder change little.
    """
    held = max(1, round(len(entries) * TEST_SHARE))
    if held >= len(entries):
        raise InputError(f"{printable(str(root))} holds one picture: give at least two")
    digests = [
        hashlib.blake2b(plain_name(e.name).encode("utf-8", "surrogateescape")).digest()
        for e in entries
    ]
    places: dict[str, list[int]] = {}
    for place in sorted(range(len(entries)), key=lambda n: digests[n]):
        places.setdefault(entries[place].label, []).append(place)
    share = {
        place: (rank + 0.5) / len(own)
        for own in places.values()
        for rank, place in enumerate(own)
    }
    order = sorted(range(len(entries)), key=lambda n: (share[n], digests[n]))
    out = set(order[:held])
    return {
        "train": [e for n, e in enumerate(entries) if n not in out],
        "test": [e for n, e in enumerate(entries) if n in out],
    }


def plain_name(name: str) -> str:
    """A name as all systems write it: accents are composed with their letters."""
    return unicodedata.normalize("NFC", name)


def printable(text: str) -> str:
    """A path on a line: what is no text is escaped, and so are ends of lines."""
    shown = text.encode("utf-8", "backslashreplace").decode()
    return shown if shown.isprintable() else repr(shown)[1:-1]


def listed_names(names: Sequence[str] | Mapping[str, str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(printable(name) for name in list(names)[:most])
    return shown + (f" and {len(names) - most:,} more" if len(names) > most else "")


def left_out(names: Sequence[str], folder: Path) -> str:
    """The line about files that are no pictures by their names."""
    kind = "file is no picture" if len(names) == 1 else "files are no pictures"
    return (
        f"{len(names):,} {kind} by name and left out of {printable(str(folder))}: "
        f"{listed_names(names)}"
    )
