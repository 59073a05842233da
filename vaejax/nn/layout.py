"""Layouts of deep hierarchies: strings of blocks, as papers and their code write them.

The encoder's string goes from the image downwards: `32x11` is 11 residual blocks on
maps of 32 x 32, `32d2` one more that is pooled by 2 at its end. The decoder's goes from
the top: `1x1` is one block of latents on maps of 1 x 1, `4m1` one on maps of 4 x 4 that
mixes in the stream of side 1, `16r4` are 4 blocks that see the activation of the
encoder which the block before them saw. A side alone, as `32`, is one block.
"""

import itertools
import re
from typing import NamedTuple

from vaejax.errors import InputError, as_text, require

MOST_BLOCKS = 1000
KINDS = {"encoder": "xd", "decoder": "xmr"}
FORMS = {
    "encoder": "32x11 (11 blocks of side 32) or 32d2 (one, pooled by 2)",
    "decoder": "16x5 (5 blocks of side 16), 16m8 (one that mixes in side 8) or 16r4 "
    "(4 that see the activation of the one before)",
}


class Size(NamedTuple):
    """Channels of the stream of a side, and of the bottlenecks of its blocks."""

    width: int
    inner: int


class Up(NamedTuple):
    """A block of the encoder, pooled by `rate` at its end."""

    side: int
    rate: int


class Down(NamedTuple):
    """A block of latents; it mixes in the stream of side `mixes`, where that is not 0.

    `sees` is the place of the activation that its posterior reads: in a layout of
    mirrored blocks that of one of the encoder's blocks, in others after so many of
    them.
    """

    side: int
    mixes: int
    sees: int


class Layout(NamedTuple):
    """The blocks of encoder and decoder, and the channels of each block of latents."""

    up: tuple[Up, ...]
    down: tuple[Down, ...]
    sizes: tuple[tuple[int, Size], ...]
    latents: int

    @property
    def side(self) -> int:
        """Side of the (square) image."""
        return self.up[0].side

    def size(self, side: int) -> Size:
        """Channels at a side."""
        return dict(self.sizes)[side]

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """The shape of each block of latents, from the top."""
        return [(each.side, each.side, self.latents) for each in self.down]

    @property
    def total(self) -> int:
        """Latents of all blocks."""
        return sum(each.side**2 for each in self.down) * self.latents


class Item(NamedTuple):
    """One entry of a string: a side, a kind, and a number."""

    side: int
    kind: str
    number: int
    text: str


def layout_of(
    encoder: str,
    decoder: str,
    *,
    latents: int,
    width: int,
    bottleneck: float = 0.25,
    widths: str = "",
    mirrored: bool = False,
) -> Layout:
    """The layout that strings describe.

    Args:
      encoder: its blocks, as `32x11,32d2,16x6,16d2,8x3`.
      decoder: its blocks, as `8x1,16m8,16x10,32m16,32x21`.
      latents: channels of each block of latents.
      width: channels of the streams.
      bottleneck: share of these in the bottlenecks.
      widths: other channels for some sides, as `16:96,32:48/48`: those of the stream
        and, after a stroke, of bottlenecks.
      mirrored: each block of the decoder, but those of `r`, sees one of the encoder's,
        the first one the last; else it sees the last activation of its side.

    Raises:
      InputError: a string is not of this form, or the two do not fit each other.
    """
    up = parse_encoder(encoder)
    items = parse_items("decoder", decoder)
    check_streams(items, up[0].side)
    down = connected(items, up, mirrored)
    sides = sorted({each.side for each in (*up, *down)} | {up[-1].side // up[-1].rate})
    sizes = parse_widths(widths, sides, width, bottleneck)
    return Layout(tuple(up), tuple(down), tuple(sizes.items()), latents)


def parse_items(part: str, text: str) -> list[Item]:
    """The entries of a string."""
    found = []
    for entry in text.replace(" ", "").split(","):
        match = re.fullmatch(
            rf"([0-9]{{1,5}})(?:([{KINDS[part]}])([0-9]{{1,4}}))?", entry
        )
        side, number = (int(match[1]), int(match[3] or 1)) if match else (0, 0)
        if not match or side < 1 or number < 1:
            raise InputError(
                f"--{part}-blocks has an entry {as_text(entry)}: write {FORMS[part]}, "
                "with commas between"
            )
        found.append(Item(side, match[2] or "x", number, entry))
    blocks = sum(i.number if i.kind in "xr" else 1 for i in found)
    if blocks > MOST_BLOCKS:
        raise InputError(f"--{part}-blocks has {blocks:,} blocks: {MOST_BLOCKS:,} fit")
    return found


def parse_encoder(text: str) -> list[Up]:
    """The blocks of the encoder; InputError where one does not follow the other."""
    items = parse_items("encoder", text)
    blocks, side = [], items[0].side
    for item in items:
        if item.side != side:
            raise InputError(
                f"--encoder-blocks {item.text!r} follows maps of side {side}: pool "
                f"them first, as {side}d2 does"
            )
        if item.kind == "d":
            if side % item.number:
                raise InputError(
                    f"--encoder-blocks {item.text!r}: side {side} is no multiple of "
                    f"{item.number}"
                )
            blocks.append(Up(side, item.number))
            side //= item.number
        else:
            blocks += [Up(side, 1)] * item.number
    return blocks


def check_streams(items: list[Item], image: int) -> None:
    """InputError where a stream of the decoder begins without one above it, or where
    the last one is not that of the image.
    """
    seen = {items[0].side}
    for place, item in enumerate(items):
        if item.kind == "m" and (item.number not in seen or item.side % item.number):
            above = ", ".join(str(s) for s in sorted(seen)) if place else "none"
            raise InputError(
                f"--decoder-blocks {item.text!r} mixes in side {item.number}: choose a "
                f"side that stands before it ({above}) and divides {item.side}"
            )
        if item.kind != "m" and item.side not in seen:
            raise InputError(
                f"--decoder-blocks {item.text!r} is the first of its side: begin with "
                f"{item.side}m{max(seen)}"
            )
        if item.kind == "r" and place == 0:
            raise InputError(
                f"--decoder-blocks {item.text!r} has no block before it: begin with x"
            )
        seen.add(item.side)
    if items[-1].side != image:
        raise InputError(
            f"--decoder-blocks ends at side {items[-1].side}, --encoder-blocks begins "
            f"at {image}: these must be equal"
        )


def connected(items: list[Item], up: list[Up], mirrored: bool) -> list[Down]:
    """The blocks of the decoder, with the activations that they see."""
    after = {up[0].side: 0}
    after |= {each.side // each.rate: n + 1 for n, each in enumerate(up)}
    found: list[Down] = []
    left = len(up)
    for item in items:
        repeats = 1 if item.kind == "m" else item.number
        for _ in range(repeats):
            mixes = item.number if item.kind == "m" else 0
            if item.kind == "r":
                sees = found[-1].sees
            elif mirrored:
                left -= 1
                sees = left
            else:
                sees = after.get(item.side, -1)
            if sees < 0 or (mirrored and up[sees].side != item.side):
                raise InputError(unconnected(item, mirrored))
            found.append(Down(item.side, mixes, sees))
    if mirrored and left:
        raise InputError(
            f"{left} of {len(up)} blocks of --encoder-blocks have no block of "
            "--decoder-blocks that sees them: mirror them, each by one"
        )
    return found


def unconnected(item: Item, mirrored: bool) -> str:
    """The line about a block that sees no activation of its side."""
    lacks = f"--decoder-blocks {item.text!r} sees no block of --encoder-blocks of side"
    if mirrored:
        return f"{lacks} {item.side}: mirror the encoder's blocks, each by one"
    return f"{lacks} {item.side}: add {item.side}x1 there, or leave it out"


def parse_widths(
    text: str, sides: list[int], width: int, bottleneck: float
) -> dict[int, Size]:
    """The channels of each side."""
    require(width >= 1, "width", width, "at least 1")
    require(0 < bottleneck <= 4, "bottleneck", bottleneck, "above 0 and at most 4")
    found = {side: Size(width, max(1, int(width * bottleneck))) for side in sides}
    for entry in filter(None, text.replace(" ", "").split(",")):
        match = re.fullmatch(r"([0-9]{1,5}):([0-9]{1,5})(?:/([0-9]{1,5}))?", entry)
        numbers = [int(n) for n in match.groups() if n] if match else [0]
        if min(numbers) < 1:
            raise InputError(
                f"--widths has an entry {as_text(entry)}: write SIDE:CHANNELS or "
                "SIDE:CHANNELS/BOTTLENECK, with commas between"
            )
        if numbers[0] not in found:
            known = ", ".join(map(str, sides))
            raise InputError(
                f"--widths is of side {numbers[0]}: the blocks have sides {known}"
            )
        own = numbers[1]
        inner = numbers[2] if len(numbers) > 2 else max(1, int(own * bottleneck))
        found[numbers[0]] = Size(own, inner)
    return found


def blocks_for(side: int, blocks: int) -> tuple[str, str]:
    """Strings of encoder and decoder for images of a side, `blocks` on each map.

    Maps are halved while their side is even and above 4; then comes one number.
    """
    sides = [side]
    while sides[-1] > 4 and sides[-1] % 2 == 0:
        sides.append(sides[-1] // 2)
    if sides[-1] > 1:
        sides.append(1)
    pairs = list(itertools.pairwise(sides))
    up = [f"{s}x{blocks},{s}d{s // below}" for s, below in pairs]
    down = [f"{s}m{below},{s}x{blocks}" for s, below in reversed(pairs)]
    top = f"{sides[-1]}x{blocks}"
    return ",".join([*up, top]), ",".join([top, *down])


def fitting_side(height: int, width: int) -> int:
    """The least multiple of 4 that an image fits into."""
    return -(-max(height, width) // 4) * 4
