"""Data with known factors: grids that are drawn, TFDS's own sets, users' arrays."""

import json
from typing import Any

import numpy as np
import pytest
from matplotlib.path import Path as Polygon

from tests.test_data import adhoc, picture
from vaejax.data import Spec, from_arrays, open_dataset
from vaejax.data.builders import _sprite as sp
from vaejax.data.builders._sprite import sprite
from vaejax.data.builders.sprites_colour import colour
from vaejax.data.grids import LONGEST, folder_name, plain_subset
from vaejax.data.places import find, parse_name
from vaejax.data.preprocess import blank
from vaejax.data.reading import Reading
from vaejax.data.spec import Factor
from vaejax.errors import InputError

SMALL = "scale=0+5,orientation=0-39-13,x=0-31-10,y=0-31-10"
"""3 x 2 x 4 x 4 x 4 sprites."""


@pytest.fixture(autouse=True)
def place(tmp_path_factory, tmp_path, monkeypatch):
    """Nothing outside pytest's folders is read or written."""
    shared = tmp_path_factory.getbasetemp() / "grids"
    monkeypatch.setenv("TFDS_DATA_DIR", str(shared))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def whole(data, key):
    """All examples, training before test."""
    return np.concatenate([data.split(split)[key] for split in ("train", "test")])


def corners(shape, scale, orientation):
    """The outline of a square or an ellipse, turned anticlockwise as it is seen."""
    if shape == 0:
        points = sp.HALF * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    else:
        t = np.linspace(0, 2 * np.pi, sp.CORNERS, endpoint=False)
        points = np.stack([sp.AXES[0] * np.cos(t), sp.AXES[1] * np.sin(t)], 1)
    angle = -2 * np.pi * orientation / 39  # rows grow downwards
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (0.5 + 0.1 * scale) * points @ turn.T


@pytest.mark.parametrize("shape", [0, 1])
def test_sprites_are_the_pixels_inside_an_outline(shape):
    """By matplotlib's test of points in polygons, which knows nothing of ours."""
    rng = np.random.default_rng(0)
    middles = np.stack(np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5), -1)
    for _ in range(20):
        scale, turn, x, y = (int(rng.integers(n)) for n in (6, 40, 32, 32))
        at = 16 + 32 * np.array([x, y]) / 31
        points = corners(shape, scale, turn) + at
        outline = Polygon(np.vstack([points, points[:1]]), closed=True)
        inside = outline.contains_points(middles.reshape(-1, 2)).reshape(64, 64)
        assert (sprite(shape, scale, turn, x, y) != inside).sum() <= 1  # on the rim


def test_hearts_are_symmetric_and_all_sprites_grow_with_their_scale():
    heart = sprite(2, 5, 0, 0, 0)[:32, :32]  # around the middle of a pixel's corner
    np.testing.assert_array_equal(heart, heart[:, ::-1])
    assert heart[:16].any(0).sum() > heart[22:].any(0).sum()  # the tip is below
    for shape in range(3):
        area = [int(sprite(shape, scale, 3, 9, 20).sum()) for scale in range(6)]
        ratio = np.sqrt(np.array(area) / area[-1])
        np.testing.assert_allclose(ratio, np.linspace(0.5, 1, 6), atol=0.03)
        first, last = (sprite(shape, 2, turn, 9, 20) for turn in (0, 39))
        np.testing.assert_array_equal(first, last)


def test_a_subset_is_drawn_and_holds_its_factors(monkeypatch):
    data = open_dataset(f"sprites/{SMALL}")
    spec = data.spec
    assert [f.name for f in spec.factors] == ["orientation", "scale", "shape", "x", "y"]
    assert [f.size for f in spec.factors] == [4, 2, 3, 4, 4]
    assert spec.factors[1] == Factor("scale", 2, ("0", "5"))
    assert (spec.levels, spec.shape, sum(spec.sizes.values())) == (2, (64, 64, 1), 384)
    assert spec.class_names == ("square", "ellipse", "heart")
    values = {
        f.name: [int(v) for v in f.values or range(f.size)] for f in spec.factors[:2]
    }
    x, factors = whole(data, "x"), whole(data, "factors")
    np.testing.assert_array_equal(whole(data, "y"), factors[:, 2])
    assert len(np.unique(factors, axis=0)) == 384
    for row in range(0, 384, 29):
        turn, scale, shape, left, top = factors[row].tolist()
        of = shape, values["scale"][scale], values["orientation"][turn]
        drawn = sprite(*of, 10 * left, 10 * top)
        np.testing.assert_array_equal(x[row].reshape(64, 64), drawn)
    # The same subset in other words is the same folder, and read from the cache.
    monkeypatch.setattr("vaejax.data.decode.decode_splits", None)
    again = open_dataset(
        "sprites/y=30+20+10+0,x=0-30-10,orientation=0+13+26+39,scale=5+0"
    )
    np.testing.assert_array_equal(whole(again, "factors"), factors)
    assert again.spec.digest == spec.digest
    assert Spec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert blank(spec, 3)["factors"].shape == (3, 5)


def test_records_keep_the_order_of_the_grid():
    """The last factor varies fastest, as in dSprites."""
    from vaejax.data.decode import decode_splits

    folder = find(parse_name(f"sprites/{SMALL}"))
    if folder is None:
        open_dataset(f"sprites/{SMALL}")
        folder = find(parse_name(f"sprites/{SMALL}"))
    assert folder is not None
    data = decode_splits("s", folder, Reading(stream="yes"))
    held: Any = data.examples("train").records
    records = held.records  # before a tenth is held out
    found = np.array([record.factors for record in records.take(range(384))])
    order = found[:, [2, 1, 0, 3, 4]]
    np.testing.assert_array_equal(
        np.ravel_multi_index(order.T, (3, 2, 4, 4, 4)), range(384)
    )


def test_streamed_examples_bring_their_factors():
    memory = open_dataset(f"sprites/{SMALL}")
    streamed = open_dataset(f"sprites/{SMALL}", reading=Reading(stream="yes"))
    assert streamed.spec.factors == memory.spec.factors
    rows = np.array([5, 0, 17])
    for key, array in streamed.some("test", rows).items():
        np.testing.assert_array_equal(array, memory.some("test", rows)[key])


def test_colours_are_of_the_picture_and_no_factor():
    data = open_dataset("sprites_colour/scale=5,orientation=7,x=0-31-31,y=3")
    assert [f.name for f in data.spec.factors] == ["shape", "x"]
    x, factors = whole(data, "x").reshape(-1, 64, 64, 3), whole(data, "factors")
    for picture_, (shape, left) in zip(x, factors.tolist(), strict=True):
        at = shape, 5, 7, 31 * left, 3
        number = int(np.ravel_multi_index(at, (3, 6, 40, 32, 32)))
        levels = picture_[sprite(*at) == 1]
        np.testing.assert_array_equal(levels, np.tile(colour(number), (len(levels), 1)))
    levels = np.stack([colour(number) for number in range(2000)])
    assert levels.min() == 128
    assert levels.max() == 255
    np.testing.assert_allclose(levels.mean(0), 191.5, atol=4 * 37 / np.sqrt(2000))


def test_squares_are_where_their_factors_say():
    data = open_dataset(
        "xy_squares/x_red=0+7,y_red=3,x_green=0+7,y_green=3,x_blue=1,y_blue=3"
    )
    assert [f.name for f in data.spec.factors] == ["x_green", "x_red"]
    x, factors = whole(data, "x").reshape(-1, 64, 64, 3), whole(data, "factors")
    assert len(x) == 4
    np.testing.assert_array_equal(x.astype(bool).sum((1, 2)), 64)
    for each, (green, red) in zip(x, factors.tolist(), strict=True):
        assert each[24:32, 56 * red : 56 * red + 8, 0].min() == 1
        assert each[24:32, 56 * green : 56 * green + 8, 1].min() == 1
        assert each[24:32, 8:16, 2].min() == 1


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("", ""),
        ("shape=2+1,x=0-31", "shape=ellipse+heart"),
        ("y=31+0,orientation=0-9-3", "orientation=0-9-3,y=0+31"),
        ("scale=1+2+3+5", "scale=1+2+3+5"),
        ("x=4-4", "x=4"),
    ],
)
def test_a_subset_has_one_plain_text(text, plain):
    assert plain_subset("sprites", text) == plain
    assert plain_subset("sprites", plain) == plain


def test_a_long_subset_has_a_short_folder():
    many = "+".join(str(v) for v in range(32) if v % 5)
    text = plain_subset("sprites", f"x={many},y={many}")
    assert len(text) > LONGEST
    assert len(folder_name(text)) < 30
    other = plain_subset("sprites", f"x={many},y={many}+0")
    assert folder_name(other) != folder_name(text)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("sprites/scales=1", "names 'scales': did you mean scale"),
        ("sprites/scale=6", "scale has no value '6': it has 0 to 5"),
        ("sprites/shape=circle", "0 to 2, square, ellipse, heart"),
        ("sprites/scale=1,scale=2", "names 'scale': twice"),
        ("sprites/x=5-2", "x has no value '5-2'"),
        ("sprites/x=0-9-0", "x has no value '0-9-0'"),
        ("sprites/x=", "x has no value ''"),
        ("sprites/ellipse", "names 'ellipse'"),
        ("sprites:2.0.0", "has one version, 1.0.0"),
        ("digits/x=1", "has no configs"),
    ],
)
def test_wrong_subsets_are_refused(name, says):
    with pytest.raises(InputError) as error:
        open_dataset(name)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def like_tfds(name):
    """Features of TFDS's sets with known factors, by their names, and examples."""
    import tensorflow_datasets as tfds

    label = tfds.features.ClassLabel
    sizes = {
        "dsprites": {"shape": 3, "scale": 6, "orientation": 40, "x_position": 32},
        "shapes3d": {"floor_hue": 10, "object_hue": 10, "scale": 8, "orientation": 15},
        "smallnorb": {"category": 5, "elevation": 9, "azimuth": 18, "lighting": 6},
    }[name]
    features = {"image": tfds.features.Image(shape=(3, 2, 3))}
    features |= {f"label_{n}": label(num_classes=size) for n, size in sizes.items()}
    if name == "smallnorb":
        features |= {"image2": tfds.features.Image(shape=(3, 2, 3))}
        features |= {"instance": label(num_classes=10)}
    else:
        values = {f"value_{n}": tfds.features.Scalar(np.float32) for n in sizes}
        features |= values
    rows = []
    for number in range(20):
        row = {f"label_{n}": (number * 7) % size for n, size in sizes.items()}
        row |= {n: np.float32(0) for n in features if n.startswith("value_")}
        row |= {n: picture(number) for n in features if n.startswith("image")}
        rows.append(row | ({"instance": number % 10} if name == "smallnorb" else {}))
    return features, rows, sizes


@pytest.mark.parametrize("name", ["dsprites", "shapes3d", "smallnorb"])
def test_factors_of_tfds_are_read_from_the_features(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setattr("vaejax.data.prepare.has_tensorflow", lambda: True)
    features, rows, sizes = like_tfds(name)
    splits = (
        {"train": rows, "test": rows[:5]} if name == "smallnorb" else {"train": rows}
    )
    adhoc(f"like_{name}", features, splits)
    data = open_dataset(f"like_{name}")
    assert data.spec.factors == tuple(Factor(n, sizes[n]) for n in sorted(sizes))
    for split in data.spec.sizes:
        arrays = data.split(split)
        number = arrays["x"][:, 0].astype(int)
        expected = np.stack([number * 7 % sizes[n] for n in sorted(sizes)], 1)
        np.testing.assert_array_equal(arrays["factors"], expected)
    # A cache of before there were factors is made again.
    folder = find(parse_name(f"like_{name}"))
    assert folder is not None
    place = folder / "vaejax" / "spec.json"
    fields = json.loads(place.read_text())
    del fields["factors"]
    place.write_text(json.dumps(fields))
    assert open_dataset(f"like_{name}").spec.factors == data.spec.factors


def test_users_arrays_bring_factors(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 255, (30, 4, 4)).astype(np.uint8)
    factors = rng.integers(0, 4, (30, 2))
    given: dict[str, Any] = {"x_train": x, "factors_train": factors}
    data = from_arrays(**given, factor_names=["hue", "size"])
    assert [f.name for f in data.spec.factors] == ["hue", "size"]
    rows = [
        int(np.flatnonzero((x.reshape(30, -1) == row).all(1))[0])
        for row in whole(data, "x")
    ]
    np.testing.assert_array_equal(whole(data, "factors"), factors[rows])
    np.savez(tmp_path / "own.npz", **given, factor_names=["hue", "size"])
    stored = open_dataset(f"npz:{tmp_path / 'own.npz'}", validation=0.2)
    assert stored.spec.factors == data.spec.factors
    assert stored.split("validation")["factors"].shape == (5, 2)
    for wrong, says in (
        ({"factors_train": factors[:9]}, r"give whole numbers, \[30, factors\]"),
        ({"factors_train": factors * 0.5}, "give whole numbers"),
        ({"factors_train": factors - 1}, "return_inverse"),
        ({"factor_names": ["hue"]}, "2 factors and 1 different names"),
        ({"x_test": x}, "factors of one split only"),
        ({"factors_test": factors}, "factors_test but no x_test"),
        ({"factors_train": None, "factor_names": ["a"]}, "has no factors_train"),
    ):
        changed: dict[str, Any] = {**given, **wrong}
        with pytest.raises(InputError, match=says):
            from_arrays(**changed)
