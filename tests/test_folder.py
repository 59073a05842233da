"""Folders of pictures: every picture as it is meant, and what is none refused."""

import io
import json
import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

import vaejax
from vaejax.apply.own import own_of, read_own
from vaejax.cli.examples import write_samples
from vaejax.data import folder as folder_module
from vaejax.data import open_dataset
from vaejax.data.listing import listing
from vaejax.data.reading import Reading
from vaejax.errors import InputError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (7, 5), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (7, 5, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (7, 5), dtype=np.uint8)
ALPHA[0, :2] = 0, 255
DEEP = RNG.integers(0, 2**16, (7, 5), dtype=np.uint16)


def keep(path, x, **how):
    """Writes an array, or a picture, as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (Image.fromarray(x) if isinstance(x, np.ndarray) else x).save(path, **how)


def opened(root, **reading):
    return open_dataset(f"folder:{root}", reading=Reading(**reading))


def only(root, picture, ending="png", **how):
    """The example of a picture, as the folder of two copies of it gives it."""
    for split in ("train", "test"):
        keep(root / split / f"a.{ending}", picture, **how)
    data = opened(root)
    train, test = (data.split(s)["x"] for s in ("train", "test"))
    np.testing.assert_array_equal(train, test)
    x = train.reshape(data.spec.shape)
    return x * 255 if data.spec.levels == 2 else x


def on_white(colour, alpha):
    """Porter and Duff's over, on white: a c + (1 - a) 255, rounded."""
    a = alpha.astype(int)[..., None]
    return (2 * (a * colour + (255 - a) * 255) + 255) // 510


def palette_of(x):
    """The same colours by a palette, of at most 35 entries here."""
    colours, index = np.unique(x.reshape(-1, 3), axis=0, return_inverse=True)
    image = Image.fromarray(index.reshape(x.shape[:2]).astype(np.uint8), "P")
    image.putpalette(colours.astype(np.uint8).tobytes())
    return image


FLAT = np.repeat(GREY[..., None], 3, 2)
CASES = {
    "L": (GREY, GREY[..., None], {}),
    "RGB": (COLOUR, COLOUR, {}),
    "1": (Image.fromarray(GREY > 127), ((GREY > 127) * 255)[..., None], {}),
    "P": (palette_of(COLOUR), COLOUR, {}),
    "P of grey": (palette_of(FLAT), GREY[..., None], {}),
    "16 bits": (
        DEEP,
        DEEP[..., None] // 257,
        {},
    ),
    "RGBA": (np.dstack([COLOUR, ALPHA]), on_white(COLOUR, ALPHA), {}),
    "LA": (
        Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)]),
        on_white(GREY[..., None], ALPHA),
        {},
    ),
    "a transparent colour": (
        COLOUR,
        np.where((COLOUR[2, 3] == COLOUR).all(-1, keepdims=True), 255, COLOUR),
        {"transparency": tuple(COLOUR[2, 3].tolist())},
    ),
    "transparent 16 bits": (
        GREY.astype(np.uint16) * 257,
        np.where(GREY[2, 3] == GREY, 255, GREY)[..., None],
        {"transparency": int(GREY[2, 3]) * 257},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_mode_is_that_picture(case, tmp_path):
    picture, wanted, how = CASES[case]
    np.testing.assert_array_equal(only(tmp_path, picture, **how), wanted)


@pytest.mark.parametrize("ending", ["gif", "bmp", "tiff", "webp", "pgm", "TIF"])
def test_each_format_is_that_picture(ending, tmp_path):
    how = {"lossless": True} if ending == "webp" else {}
    x = only(tmp_path, GREY, ending, **how)
    np.testing.assert_array_equal(x, np.broadcast_to(GREY[..., None], x.shape))


def test_jpeg_of_four_inks_is_what_pillow_makes_of_it(tmp_path):
    inks = Image.fromarray(COLOUR).convert("CMYK")
    x = only(tmp_path, inks, "jpg", quality=100, subsampling=0)
    assert np.abs(x.astype(int) - COLOUR).max() <= 6  # two lossy steps of JPEG


ORIENTATIONS = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x.swapaxes(0, 1)[:, ::-1],
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: x.swapaxes(0, 1)[::-1],
}
"""The change a viewer makes to the stored rows: row and column 0 are top and left for
1, top and right for 2, bottom and right for 3, ..., left and top for 5 (Exif 2.3)."""


@pytest.mark.parametrize("turn", ORIENTATIONS)
@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_pictures_are_turned_upright(turn, ending, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    x = only(tmp_path, COLOUR, ending, exif=exif)
    np.testing.assert_array_equal(x, ORIENTATIONS[turn](COLOUR))


def test_the_first_of_several_frames_is_taken_and_that_is_said(tmp_path):
    frames = [Image.fromarray(np.roll(GREY, n, 0)) for n in range(3)]
    x = only(tmp_path, frames[0], "tiff", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(x[..., 0], GREY)
    assert "of several frames: the first is taken" in opened(tmp_path).spec.remarks[-1]


def test_grey_among_colour_becomes_colour_and_that_is_said(tmp_path):
    for split in ("train", "test"):
        keep(tmp_path / split / "a.png", GREY)
        keep(tmp_path / split / "b.png", COLOUR)
    data = opened(tmp_path)
    x = data.split("train")["x"].reshape(2, *data.spec.shape)
    np.testing.assert_array_equal(x, [FLAT, COLOUR])
    assert "2 grey pictures among colour" in " ".join(data.spec.remarks)


@pytest.fixture(scope="module")
def various(tmp_path_factory):
    """60 pictures of many sizes in three classes, one of which is rare."""
    root = tmp_path_factory.mktemp("folder") / "pets"
    rng = np.random.default_rng(3)
    for n in range(60):
        height, width = rng.integers(16, 40, 2)
        x = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        label = ("K\u00e4tzchen", "\u732b", "\u0441\u043e\u0431\u0430\u043a\u0430")[
            0 if n < 4 else 1 + n % 2
        ]
        keep(root / label / f"{n}.png", x)
    (root / "Thumbs.db").write_bytes(b"x")
    (root / ".DS_Store").write_bytes(b"x")
    (root / "notes.txt").write_text("x")
    return root


def test_sizes_that_differ_need_a_side_and_the_line_gives_one(various):
    with pytest.raises(InputError, match=r"set --image-size (\d+)") as raised:
        opened(various)
    side = int(str(raised.value).split("--image-size ")[1].split(",")[0])
    data = opened(various, size=side)
    assert data.spec.shape == (side, side, 3)
    text = " ".join(data.spec.remarks)
    assert f"resized to {side} x {side}" in text
    assert "notes.txt" in text
    assert "Thumbs" not in text


def test_pictures_are_cropped_in_the_middle_and_averaged(tmp_path):
    """A wide picture of vertical thirds, the middle one a quarter black, enlarged."""
    x = np.full((16, 48), 255, np.uint8)
    x[:8, 16:24] = 0
    for split in ("train", "test"):
        keep(tmp_path / split / "a.png", x + 0 * GREY[0, 0])
    data = opened(tmp_path, size=2)
    assert data.split("train")["x"].reshape(2, 2)[0, 0] < 70
    # Smaller sides average: a chess board of single pixels is grey, not black or white.
    chess = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    for split in ("train", "test"):
        keep(tmp_path / split / "a.png", chess)
    found = opened(tmp_path, size=8).split("train")["x"]
    assert np.abs(found.astype(int) - 127.5).max() < 3


def relocated(various, tmp_path):
    """A copy elsewhere, made in another order, its names as another system has them."""
    paths = sorted(various.rglob("*.png"), key=lambda path: path.name[::-1])
    for path in paths:
        inside = str(path.relative_to(various))
        place = tmp_path / "other" / unicodedata.normalize("NFD", inside)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    return tmp_path / "other"


@pytest.mark.parametrize("stream", ["no", "yes"])
def test_place_and_order_of_a_folder_change_nothing(
    stream, various, tmp_path, monkeypatch
):
    copy = relocated(various, tmp_path)
    scandir = os.scandir
    one = opened(various, size=8, stream=stream)
    monkeypatch.setattr(os, "scandir", lambda path: list(scandir(path))[::-1])
    other = opened(copy, size=8, stream=stream)
    assert one.spec.digest == other.spec.digest
    assert one.spec.class_names == other.spec.class_names
    for split, count in one.spec.sizes.items():
        a, b = (d.some(split, np.arange(count)) for d in (one, other))
        np.testing.assert_array_equal(a["x"], b["x"])
        np.testing.assert_array_equal(a["y"], b["y"])


def test_another_picture_is_another_digest(various, tmp_path):
    copy = relocated(various, tmp_path)
    digest = opened(copy, size=8).spec.digest
    path = next(copy.rglob("*.png"))
    keep(path, 255 - np.asarray(Image.open(path)))
    assert opened(copy, size=8).spec.digest != digest


def test_a_stream_is_what_is_in_memory(various):
    one, other = (opened(various, size=8, stream=s) for s in ("no", "yes"))
    assert other.spec.streams
    for split, count in one.spec.sizes.items():
        a, b = (d.some(split, np.arange(count)) for d in (one, other))
        np.testing.assert_array_equal(a["x"], b["x"])
        np.testing.assert_array_equal(a["y"], b["y"])


def test_the_split_is_by_names_and_leaves_classes_to_train_on(various, tmp_path):
    data = opened(various, size=8)
    assert data.spec.sizes == {"train": 54, "test": 6}
    assert data.spec.class_names == (
        "K\u00e4tzchen",
        "\u0441\u043e\u0431\u0430\u043a\u0430",
        "\u732b",
    )
    assert data.spec.unseen == ()
    held = data.split("test")["x"]
    # One more picture moves few of those that were held out.
    copy = relocated(various, tmp_path)
    keep(copy / "\u732b" / "new.png", np.full((20, 20, 3), 7, np.uint8))
    again = opened(copy, size=8).split("test")["x"]
    kept = [any((x == y).all() for y in again) for x in held]
    assert sum(kept) >= len(held) - 1


def test_folders_of_splits_and_numbered_classes(tmp_path):
    for split, labels in (("train", "2 10"), ("test", "10 2 3"), ("val", "10")):
        for label in labels.split():
            keep(
                tmp_path / split / label / "a.png",
                np.full((4, 4), 9 * int(label), "u1"),
            )
    data = opened(tmp_path)
    assert data.spec.sizes == {"train": 2, "test": 3, "validation": 1}
    assert (data.spec.class_names, data.spec.unseen) == (("2", "10"), ("3",))
    assert sorted(data.split("test")["y"].tolist()) == [-1, 0, 1]
    assert data.split("validation")["x"][0, 0] == 90
    with pytest.raises(InputError, match="pictures of 3 to test and none to train on"):
        opened(tmp_path, stream="yes")


def test_classes_may_be_called_like_splits(tmp_path):
    for label in ("car", "plane", "train"):
        for n in range(3):
            keep(tmp_path / label / f"{n}.png", GREY)
    assert opened(tmp_path).spec.class_names == ("car", "plane", "train")


def nothing(root):
    root.mkdir()


def other_files(root):
    root.mkdir()
    (root / "a.txt").write_text("x")


def a_file(root):
    root.write_text("x")


def beside(root):
    keep(root / "a.png", GREY)
    keep(root / "cat" / "a.png", GREY)


def deeper(root):
    keep(root / "cat" / "old" / "a.png", GREY)


def looped(root):
    keep(root / "cat" / "a.png", GREY)
    (root / "cat" / "again").symlink_to(root, target_is_directory=True)


def no_test(root):
    keep(root / "train" / "cat" / "a.png", GREY)
    keep(root / "val" / "cat" / "a.png", GREY)


def split_and_class(root):
    for name in ("train", "test", "dog"):
        keep(root / name / "cat" / "a.png", GREY)


def half_labelled(root):
    keep(root / "train" / "cat" / "a.png", GREY)
    keep(root / "test" / "a.png", GREY)


def damaged(root):
    keep(root / "a.png", GREY)
    (root / "broken.png").write_bytes(b"no picture")


def truncated(root):
    file = io.BytesIO()
    Image.fromarray(COLOUR.repeat(9, 0)).save(file, "JPEG")
    for name in "ab":
        keep(root / f"{name}.jpg", COLOUR.repeat(9, 0))
    (root / "broken.jpg").write_bytes(file.getvalue()[:-200])


def gone(root):
    keep(root / "a.png", GREY)
    (root / "gone.png").symlink_to(root / "nowhere.png")


def circular(root):
    keep(root / "a.png", GREY)
    (root / "self.png").symlink_to(root / "self.png")


def dim(root):
    for name in "ab":
        keep(root / f"{name}.png", GREY.astype(np.uint16) * 16)


def floats(root):
    for name in "ab":
        keep(root / f"{name}.tiff", GREY.astype(np.float32))


def alone(root):
    keep(root / "a.png", GREY)


REFUSED = {
    nothing: "holds no pictures",
    other_files: "holds no pictures",
    a_file: "is a file",
    beside: r"a\.png\) beside folders of pictures \(cat\)",
    deeper: r"cat/old is a folder in a class's folder",
    looped: r"cat/again is a folder in a class's folder",
    no_test: "no folder test",
    split_and_class: "beside them dog",
    half_labelled: "make them alike",
    damaged: r"broken\.png is damaged",
    truncated: r"broken\.jpg is corrupt \(OSError: image file is truncated",
    gone: r"gone\.png cannot be read",
    circular: r"self\.png cannot be read",
    dim: "16 bits that go to [0-9],.* may mean several",
    floats: "pixels are floats: save it with 8 or 16 bits",
    alone: "holds one picture",
}


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_what_is_no_folder_of_pictures_is_refused_in_a_line(make, tmp_path):
    make(tmp_path / "f")
    with pytest.raises(InputError, match=REFUSED[make]) as raised:
        opened(tmp_path / "f")
    assert "\n" not in str(raised.value)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="there is no folder"):
        opened(tmp_path / "absent")
    with pytest.raises(InputError, match=r"write .folder:/"):
        open_dataset(str(tmp_path))


def test_pictures_of_too_many_pixels_are_refused(tmp_path, monkeypatch):
    for name in "ab":
        keep(tmp_path / f"{name}.png", GREY)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)  # of 35: Pillow warns
    with pytest.raises(InputError, match=r"[ab]\.png has more than 30 pixels"):
        opened(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # it raises
    with pytest.raises(InputError, match=r"[ab]\.png has more than 10 pixels"):
        opened(tmp_path)


@pytest.mark.parametrize("broken", [damaged, gone])
def test_damaged_pictures_may_be_left_out(broken, tmp_path):
    broken(tmp_path)
    for n in range(24):
        keep(tmp_path / f"{n}.png", GREY)
    data = opened(tmp_path, skip=True)
    assert sum(data.spec.sizes.values()) == 25
    assert data.spec.remarks[-1].startswith("warning: 1 left out: ")


def test_many_pictures_are_decoded_once(various, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(folder_module, "MANY", 10)
    copy = relocated(various, tmp_path)
    first = opened(copy, size=8)
    with monkeypatch.context() as patch:
        patch.setattr(folder_module, "read_folder", None)  # nobody decodes
        again = opened(copy, size=8)
    assert again.spec == first.spec
    for split in first.spec.sizes:
        for key, array in first.split(split).items():
            np.testing.assert_array_equal(again.split(split)[key], array)
    # Another content is another cache, which takes the place of the older one.
    next(copy.rglob("*.png")).unlink()
    assert sum(opened(copy, size=8).spec.sizes.values()) == 59
    caches = list((tmp_path / "cache" / "vaejax" / "folders").glob("*/*"))
    assert len(caches) == 1


def test_a_run_on_a_folder_knows_its_classes(various, tmp_path):
    model = vaejax.presets.cvae(
        dataset=f"folder:{various}",
        image_size=4,
        hidden=(6,),
        latents=2,
        epochs=1,
        batch_size=16,
        validation=0.1,
        likelihood="gaussian_fixed",
    )
    assert model.dataset.spec.sizes == {"train": 49, "test": 6, "validation": 5}
    vaejax.train(model, tmp_path / "run", quiet=True)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["data"]["name"] == f"folder:{various}"
    write_samples(tmp_path / "run", 3, tmp_path / "s.png", ("\u732b",), False, 0)
    again, _ = vaejax.load(tmp_path / "run")
    test = model.dataset.split("test")
    np.testing.assert_array_equal(again.dataset.split("test")["x"], test["x"])
    # The pictures of the test split, as a folder of their own, are that split.
    spec, entries = model.dataset.spec, listing(various).splits["test"]
    for entry in entries:
        place = tmp_path / "new" / entry.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(various / entry.name, place)
    found = own_of(again, tmp_path / "new")
    np.testing.assert_array_equal(found["x"], test["x"])
    np.testing.assert_array_equal(found["y"], test["y"])
    keep(tmp_path / "new" / "cow" / "1.png", COLOUR)
    with pytest.raises(InputError, match="no class 'cow': the classes are K"):
        own_of(again, tmp_path / "new")
    # Without a size of training, sizes are those of training.
    with pytest.raises(InputError, match="the model's pictures are 4 x 4"):
        read_own(tmp_path / "new", spec)
    keep(tmp_path / "grey" / "1.png", COLOUR)
    with pytest.raises(InputError, match=r"1\.png is in colour"):
        read_own(tmp_path / "grey", spec._replace(shape=(7, 5, 1)))


def test_names_of_bytes_that_are_no_text(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe"))
    keep(tmp_path / "a" / "1.png", GREY)
    keep(tmp_path / "a" / "2.png", GREY)
    with (tmp_path / "a" / os.fsdecode(b"\xff.png")).open("wb") as file:
        Image.fromarray(GREY).save(file, "PNG")
    assert sum(opened(tmp_path).spec.sizes.values()) == 3
    folder.mkdir()
    with (folder / "1.png").open("wb") as file:
        Image.fromarray(GREY).save(file, "PNG")
    with pytest.raises(InputError, match="is not UTF-8: rename it") as raised:
        opened(tmp_path)
    str(raised.value).encode()
