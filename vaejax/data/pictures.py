"""Encoded images to arrays: decoding, one size for all, and augmentation."""

import io
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from vaejax.errors import InputError

MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class Frame(NamedTuple):
    """How a stored image becomes an example."""

    shape: tuple[int, int, int]
    """Height, width and channels of the example."""
    size: int = 0
    """Side of the square in the middle that images are resized to; 0 resizes none."""
    crop: int = 0
    """Rows and columns that are cropped off after that."""
    flip: bool = False
    """Whether half of the images are mirrored."""
    own: bool = False
    """Whether images are users' files, which are made plain: `photos.plain_picture`."""


def frame_of(
    stored: tuple[int | None, ...],
    size: int,
    crop: int,
    flip: bool,
    what: str,
    own: bool = False,
) -> Frame:
    """The frame for images of a stored shape, in which None is any.

    InputError where the images differ in size and `size` is 0, or the crop is too large
    for them.
    """
    height, width, channels = stored
    if channels not in MODES:
        raise InputError(f"{what} has {channels} channels: 1, 3 or 4 can be read")
    if size:
        return Frame((size, size, channels), size + crop, crop, flip, own)
    if height is None or width is None:
        raise InputError(
            f"{what} has different sizes, {stored}: set --image-size, of a square to "
            "which they are resized and cropped"
        )
    if crop >= min(height, width):
        raise InputError(f"--random-crop {crop} leaves nothing of {what}, {stored}")
    return Frame((height - crop, width - crop, channels), 0, crop, flip, own)


def decode_picture(
    content: bytes, frame: Frame, u: np.ndarray | None = None
) -> np.ndarray:
    """One example, uint8 of the frame's shape.

    `u` are three uniform numbers: place of the crop, row and column, and side of the
    flip. Without them the crop is in the middle and nothing is flipped, as it is for
    evaluation. What cannot be decoded raises what PIL does; ValueError where the size
    is another than the frame's.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            x = np.asarray(fit_frame(image, frame), np.uint8)
    except UnidentifiedImageError:
        raise ValueError("it is no image") from None
    height, width, channels = frame.shape
    x = x.reshape(*x.shape[:2], channels)
    if x.shape[:2] != (height + frame.crop, width + frame.crop):
        raise ValueError(f"its size is {x.shape[0]} x {x.shape[1]}")
    top = left = frame.crop // 2
    if u is not None:
        top, left = (int(number * (frame.crop + 1)) for number in u[:2])
    x = x[top : top + height, left : left + width]
    return x[:, ::-1] if frame.flip and u is not None and u[2] < 0.5 else x


def fit_frame(image: Image.Image, frame: Frame) -> Image.Image:
    """In the frame's mode and, where there is one, of its size."""
    mode = MODES[frame.shape[2]]
    if frame.size:
        # A JPEG is decoded at a fraction of its size, at least twice that wanted.
        scale = 2 * frame.size / min(image.size)
        image.draft(mode, (round(image.width * scale), round(image.height * scale)))
    if frame.own:
        from vaejax.data.photos import plain_picture  # not needed of TFDS sets

        image = plain_picture(image)
    if not frame.size:
        image.load()
        return image if image.mode == mode else image.convert(mode)
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return image.convert(mode).resize(
        (frame.size, frame.size),
        Image.Resampling.BICUBIC,
        box=(left, top, left + side, top + side),
    )
