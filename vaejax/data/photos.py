"""Users' own pictures, of any size, mode and depth: made plain, and surveyed.

Rules, each of which a run states where it applies: pictures are turned as EXIF says;
transparent parts are laid on white; grey of 16 bits becomes levels by the rule `deep`
of `vaejax.data.levels`; of several frames the first is taken; pictures become grey
where all are, by their modes, else colour. Colour profiles are not applied.
"""

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, NamedTuple, Protocol

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from vaejax.data.levels import RULES, remedy
from vaejax.data.quiet import one_line
from vaejax.data.records import Records
from vaejax.errors import InputError

GREY = ("1", "L", "LA", "La")
WHOLE = ("I", "I;16", "I;16L", "I;16B", "I;16N")
"""Modes of grey in more than 8 bits."""
TOP = 65535
WIDTH, HEIGHT = ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength
"""Tags of a TIFF: columns and rows as they are stored."""


class Pictures(Records, Protocol):
    """Records that are pictures of users."""

    @property
    def labels(self) -> np.ndarray:
        """Indices of classes, int `[N]`: -1 where there is none."""
        ...

    def file(self, row: int) -> BinaryIO:
        """A picture as an open file; OSError where there is none."""
        ...


class Look(NamedTuple):
    """The facts that the head of a picture tells."""

    format: str
    height: int
    """Rows, once it is upright."""
    width: int
    grey: bool
    alpha: bool
    turned: bool
    frames: bool
    """Whether there are several."""
    top: int
    """The largest pixel of grey in 16 bits, else 0."""


class Survey(NamedTuple):
    """The looks at all pictures, and the rows of each split that can be opened."""

    looks: list[Look]
    names: list[str]
    """Where each of `looks` is from."""
    rows: Mapping[str, np.ndarray]
    skipped: list[str]
    """Lines about those that cannot be opened."""


def plain_picture(image: Image.Image) -> Image.Image:
    """A picture upright, opaque and of 8 bits a channel; of its grey or colour mode."""
    image = ImageOps.exif_transpose(image)
    if image.mode in WHOLE:
        return of_16_bits(image)
    if image.mode == "F":
        raise ValueError("its pixels are floats: save it with 8 or 16 bits")
    if not image.has_transparency_data:
        return image
    opaque = image.convert("LA" if image.mode in ("LA", "La") else "RGBA")
    *colours, alpha = opaque.split()
    mode = "L" if len(colours) == 1 else "RGB"
    white = Image.new(mode, image.size, "white")
    white.paste(Image.merge(mode, colours), mask=alpha)
    return white


def of_16_bits(image: Image.Image) -> Image.Image:
    """Levels 0 to 255 of grey 0 to 65,535; the value that is transparent is white."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > TOP:
        raise ValueError("its pixels are not in 0 .. 65535: save it with 16 bits")
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        values[values == clear] = TOP
    return Image.fromarray(RULES["deep"].convert(values))


def is_grey(image: Image.Image) -> bool:
    """Whether mode and palette have no colours."""
    if image.mode in ("P", "PA"):
        palette = np.array(image.getpalette("RGB") or [0]).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return image.mode in (*GREY, *WHOLE, "F")


def look_at(file: BinaryIO) -> Look:
    """The facts of one picture, of which only the head is read; what is wrong with it
    raises what PIL does.
    """
    with Image.open(file) as image:
        width, height = image.size
        # The EXIF of a PNG can be behind its pixels: it is looked for in decoding.
        known = image.format != "PNG" or "exif" in image.info
        turn = image.getexif().get(ExifTags.Base.Orientation, 1) if known else 1
        if turn in (5, 6, 7, 8) and not turns_itself(image):
            width, height = height, width
        return Look(
            image.format or "unknown",
            height,
            width,
            is_grey(image),
            image.has_transparency_data,
            turn in range(2, 9),
            bool(getattr(image, "is_animated", False)),
            int(np.asarray(image).max()) if image.mode in WHOLE else 0,
        )


def turns_itself(image: Image.Image) -> bool:
    """Whether Pillow gives the size of a TIFF as it is upright: newer ones do."""
    tags = getattr(image, "tag_v2", {})
    return image.size == (tags.get(HEIGHT), tags.get(WIDTH))


@contextlib.contextmanager
def careful() -> Iterator[None]:
    """Lets a picture of too many pixels be an error, and hides other warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def survey(splits: Mapping[str, Pictures], skip: bool) -> Survey:
    """A look at the head of every picture.

    InputError names one that cannot be opened, unless those are to be left out.
    """
    looks, names, skipped = [], [], []
    rows = {}
    with careful():
        for split, pictures in splits.items():
            sound = []
            for row in range(len(pictures)):
                try:
                    look = checked_look(pictures, row)
                except InputError as error:
                    if not skip:
                        raise
                    skipped.append(str(error))
                    continue
                looks.append(look)
                names.append(pictures.where(row))
                sound.append(row)
            rows[split] = np.array(sound, int)
    return Survey(looks, names, rows, skipped)


def checked_look(pictures: Pictures, row: int) -> Look:
    """The look at one picture; InputError, with the remedy, where there is none."""
    name = pictures.where(row)
    try:
        with pictures.file(row) as file:
            return look_at(file)
    except UnidentifiedImageError:
        says = "is damaged, or of a format that Pillow does not read"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        says = f"has more than {Image.MAX_IMAGE_PIXELS:,} pixels: make it smaller"
        raise InputError(f"{name} {says}") from None
    except OSError as error:
        says = f"cannot be read ({error.strerror or one_line(error)})"
    except Exception as error:  # whatever PIL raises
        says = f"cannot be read ({one_line(error)})"
    raise InputError(f"{name} {says}: {pictures.remedy}, or set --skip-corrupt")


def check_depth(found: Survey, what: str) -> None:
    """InputError where grey of 16 bits leaves the upper half of its range unused."""
    top = max((look.top for look in found.looks), default=0)
    if 0 < top <= TOP // 2:
        line = remedy(0, top, "u").replace("(x", "(np.asarray(picture)")
        raise InputError(
            f"{what} has grey pictures of 16 bits that go to {top:,}, which may mean "
            f"several things: give them as arrays, npz:PATH; {line}"
        )


def channels_of(found: Survey) -> int:
    """1 where all pictures are grey, else 3."""
    return 1 if all(look.grey for look in found.looks) else 3


def stored_shape(
    found: Survey, size: int, what: str
) -> tuple[int | None, int | None, int]:
    """Height and width, where they are the same of all, and channels.

    InputError where they differ and pictures are not resized.
    """
    channels = channels_of(found)
    sizes = {
        look[1:3]: name for look, name in zip(found.looks, found.names, strict=True)
    }
    if len(sizes) == 1:
        (height, width), *_ = sizes
        return height, width, channels
    if not size:
        least, most = (f(sizes, key=np.prod) for f in (min, max))
        side = min(64, *(min(each) for each in sizes))
        raise InputError(
            f"{what} has pictures of {len(sizes)} sizes, {size_words(least)} "
            f"({sizes[least]}) to {size_words(most)} ({sizes[most]}): set --image-size "
            f"{side}, or another side of a square to which they are cropped and resized"
        )
    return None, None, channels


def size_words(size: Sequence[int]) -> str:
    """Height and width."""
    return f"{size[0]} x {size[1]}"


def span_of_sides(sides: set[int]) -> str:
    """The least and the largest of some numbers of pixels."""
    low, high = min(sides), max(sides)
    return f"{low}" if low == high else f"{low} to {high}"


def survey_remarks(found: Survey, size: int) -> tuple[str, ...]:
    """Lines about each rule that applies to some pictures."""
    looks, count = found.looks, len(found.looks)
    formats = sorted({look.format for look in looks})
    spans = [
        span_of_sides({look.height for look in looks}),
        span_of_sides({k.width for k in looks}),
    ]
    lines = [
        f"{count:,} pictures ({', '.join(formats)}) of {' x '.join(spans)} "
        "(height x width)"
    ]
    if size:
        small = sum(min(look[1:3]) < size for look in looks)
        larger = f"; {small:,} are smaller and become blurred" if small else ""
        lines[0] += (
            f" are cropped to the square in the middle and resized to {size} x {size}"
            f"{larger}"
        )
    grey = sum(look.grey for look in looks)
    if 0 < grey < count:
        lines.append(f"{grey:,} grey pictures among colour: all become colour")
    if any(look.top for look in looks):
        lines.append(f"grey of 16 bits is taken by {RULES['deep'].code}")
    for many, says in (
        (sum(look.turned for look in looks), "turned as their EXIF says"),
        (sum(look.alpha for look in looks), "transparent in part: white shows through"),
        (sum(look.frames for look in looks), "of several frames: the first is taken"),
    ):
        if many:
            lines.append(f"{many:,} {'is' if many == 1 else 'are'} {says}")
    if found.skipped:
        lines.append(
            f"warning: {len(found.skipped):,} left out: {found.skipped[0]}"
            + (", ..." if len(found.skipped) > 1 else "")
        )
    return tuple(lines)
