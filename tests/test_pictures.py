"""Pictures of every type: they load by a stated rule, or a hint mends them."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vaejax
from tests.npz import read_npz
from vaejax.apply.own import read_own
from vaejax.apply.tables import open_array_table
from vaejax.data import open_dataset
from vaejax.data.spec import Spec
from vaejax.errors import InputError

RIGHT = np.random.default_rng(0).integers(0, 256, (40, 6, 5)).astype(np.uint8)
RIGHT[0, 0, :2] = 0, 255
FORMS = {
    "uint16": (RIGHT.astype(np.uint16) * 257, "(x // 257).astype(np.uint8)"),
    "int64": (RIGHT.astype(np.int64), "x.astype(np.uint8)"),
    "unit": (RIGHT / 255, "np.round(255 * x).astype(np.uint8)"),
    "signed": (
        (RIGHT / 127.5 - 1).astype(np.float32).clip(-1, 1),
        "np.round((x + 1) * 127.5).astype(np.uint8)",
    ),
    "levels": (RIGHT.astype(np.float32), "np.round(x).astype(np.uint8)"),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_a_picture_is_that_picture(form, tmp_path):
    x, code = FORMS[form]
    np.savez(tmp_path / "a.npz", x_train=x, x_test=x[:7])
    for data in (
        open_dataset(f"npz:{tmp_path / 'a.npz'}"),
        vaejax.from_arrays(x, x_test=x[:7]),
    ):
        np.testing.assert_array_equal(data.split("train")["x"], RIGHT.reshape(40, -1))
        np.testing.assert_array_equal(data.split("test")["x"], RIGHT[:7].reshape(7, -1))
        assert data.spec.remarks[0].endswith(f"256 levels by {code}")
    # The line that is stated is the conversion that is done.
    np.testing.assert_array_equal(eval(code, {"np": np, "x": x}), RIGHT)


def test_bool_pictures_are_binary():
    x = RIGHT > 127
    data = vaejax.from_arrays(x, x_test=x)
    assert data.spec.levels == 2
    np.testing.assert_array_equal(data.split("train")["x"], x.reshape(40, -1))
    assert data.spec.remarks[0].endswith("2 levels by 255 * x.astype(np.uint8)")


@pytest.mark.parametrize(
    ("x", "pick"),
    [
        (np.round(RIGHT / 255 * 16), 0),  # digits of scikit-learn, 0 to 16
        (np.round(RIGHT / 255 * 4095).astype(np.uint16), 0),  # 12 bits
        (RIGHT / 255 / 255, 0),
        (RIGHT / 255 + 1e-4 * (RIGHT == 255), 0),
        (RIGHT / 255 * 7 - 3, 0),
        (RIGHT.astype(np.float64) * 257, 1),
    ],
)
def test_ambiguous_ranges_have_a_hint_that_gives_the_picture(x, pick):
    with pytest.raises(InputError, match="may mean several things") as raised:
        vaejax.from_arrays(x)
    code = re.findall(
        r"(?:np\.round|\(x //).*?\.astype\(np\.uint8\)", str(raised.value)
    )
    found = eval(code[pick], {"np": np, "x": x})
    # A picture of 17 levels is known to half a step of 255 / 16, and a rounding.
    coarse = 255 / 32 + 0.5 if x.max() == 16 else 1
    assert np.abs(found.astype(int) - RIGHT).max() <= coarse


def scaled(top):
    """The picture with another largest level, as uint8."""
    return np.round(RIGHT / 255 * top).astype(np.uint8)


@pytest.mark.parametrize("top", [2, 16, 31])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_nearly_black_pictures_are_refused_with_the_line_that_mends(
    top, dtype, tmp_path
):
    """As uint8, as any other type; what the line gives is taken."""
    x = scaled(top).astype(dtype)
    np.savez(tmp_path / "a.npz", x_train=x)
    for ask in (
        lambda: vaejax.from_arrays(x),
        lambda: open_dataset(f"npz:{tmp_path / 'a.npz'}"),
    ):
        with pytest.raises(InputError, match=f"from 0 to {top}, which") as raised:
            ask()
    codes = re.findall(r"np\.round.*?\.astype\(np\.uint8\)", str(raised.value))
    for code in codes:
        data = vaejax.from_arrays(eval(code, {"np": np, "x": x}))
        assert data.split("train")["x"].max() == 255


@pytest.mark.parametrize("top", [32, 63, 120])
def test_dark_pictures_are_taken_with_a_warning(top):
    x = scaled(top)
    data = vaejax.from_arrays(x, x_test=x)
    np.testing.assert_array_equal(data.split("train")["x"], x.reshape(40, -1))
    assert f"if {top} is white" in data.spec.remarks[0]
    assert vaejax.from_arrays(scaled(128)).spec.remarks == ()


def test_what_has_no_scale_of_its_own_is_taken():
    """Binary pictures, one level alone, and dark test pictures of bright training."""
    assert vaejax.from_arrays(scaled(1)).spec.levels == 2
    assert vaejax.from_arrays(np.full((40, 4, 4), 9, np.uint8)).spec.remarks == ()
    data = vaejax.from_arrays(RIGHT, x_test=scaled(16))
    assert data.split("test")["x"].max() == 16


def test_dark_pictures_of_which_a_mask_hides_the_rest():
    x = scaled(16)
    mask = np.ones(x.shape, np.uint8)
    x[0, 0, 0], mask[0, 0, 0] = 255, 0
    with pytest.raises(InputError, match="nearly black"):
        vaejax.from_arrays(x, mask_train=mask)


def test_a_test_split_of_another_scale_is_refused():
    with pytest.raises(InputError, match=r"x_test .* goes from 0 to 255, and x_train"):
        vaejax.from_arrays(RIGHT / 255, x_test=RIGHT / 1)


def test_what_a_mask_hides_has_no_say_in_the_rule():
    x, mask = RIGHT / 255, np.ones(RIGHT.shape, np.uint8)
    x[3, 2], mask[3, 2] = np.nan, 0
    with pytest.raises(InputError, match=r"np.nan_to_num\(x\), and a mask"):
        vaejax.from_arrays(x)
    data = vaejax.from_arrays(x, x_test=x, mask_train=mask, mask_test=mask)
    right = np.where(mask, RIGHT, 0).reshape(40, -1)
    np.testing.assert_array_equal(data.split("train")["x"], right)


@pytest.mark.parametrize(
    ("shape", "labels", "mend"),
    [
        ((40, 3, 8, 9), None, lambda x: x.transpose(0, 2, 3, 1)),
        ((8, 8, 3, 40), None, lambda x: x.transpose(3, 0, 1, 2)),
        ((8, 8, 40), None, lambda x: x.transpose(2, 0, 1)),
        ((8, 9, 40), 40, lambda x: x.transpose(2, 0, 1)),
        ((30, 40, 3), None, lambda x: x[None]),
        ((30, 40, 3), None, lambda x: x[..., None]),
    ],
)
def test_orders_of_axes_that_cannot_be_meant(shape, labels, mend):
    x = np.arange(np.prod(shape)).reshape(shape).astype(np.uint8)
    y = None if labels is None else np.arange(labels) % 2
    with pytest.raises(InputError, match="looks like") as raised:
        vaejax.from_arrays(x, y)
    hints = re.findall(r"x(?:\.transpose\([^)]*\)|\[[^]]*\])", str(raised.value))
    made = [eval(hint, {"x": x}) for hint in hints]
    assert any(np.array_equal(one, mend(x)) for one in made)
    for one in made:
        if len(one) > 1 and labels in (None, len(one)):
            assert vaejax.from_arrays(one, y).spec.kind == "image"


@settings(deadline=None, max_examples=100, derandomize=True)
@given(
    dtype=st.sampled_from(
        ["bool", "uint8", "int8", "uint16", "int32", "float16", "float32"]
    ),
    low=st.sampled_from([-300.0, -1.0, -0.2, 0.0, 5.0]),
    high=st.sampled_from([0.001, 1.0, 1.2, 16.0, 255.0, 4095.0, 65000.0]),
    shape=st.lists(st.integers(1, 12), min_size=3, max_size=4),
)
def test_pictures_load_by_a_rule_or_are_refused(dtype, low, high, shape):
    unit = np.random.default_rng(0).random(shape)
    with np.errstate(invalid="ignore", over="ignore"):
        x = (low + (high - low) * unit).astype(dtype)
    try:
        data = vaejax.from_arrays(x, x_test=x)
    except InputError as error:
        assert "\n" not in str(error)
        return
    found = data.split("train")["x"].astype(float).ravel()
    if x.dtype != np.uint8:
        assert data.spec.remarks
    # Brighter stays brighter: nothing wraps around.
    order = np.argsort(x, axis=None, kind="stable")
    assert (np.diff(found[order]) >= 0).all()


GIVEN = FORMS | {
    "bool": (RIGHT > 127, ""),
    "bits": ((RIGHT > 127).astype(np.int32), ""),
    "float16": ((RIGHT / 255).astype(np.float16), ""),
}
STEP = {"uint16": 257, "int64": 1, "unit": 1 / 255, "signed": 2 / 255, "levels": 1}
"""The distance of neighbouring levels on each scale."""


def trained_on(x):
    """A model, untrained, of these pictures; and the levels that it sees, in [0, 1]."""
    model = vaejax.presets.vae(
        dataset=vaejax.from_arrays(x, x_test=x[:7]),
        hidden=(4,),
        latents=2,
        batch_size=8,
        likelihood="bernoulli" if len(np.unique(x)) == 2 else "gaussian_fixed",
    )
    seen = model.dataset.split("train")["x"] / (model.dataset.spec.levels - 1)
    return model, seen.reshape(*x.shape, 1)


@pytest.mark.parametrize("form", GIVEN)
def test_queries_take_and_give_the_scale_of_training(form):
    x, _ = GIVEN[form]
    model, seen = trained_on(x)
    unseen = np.roll(x, 3, 1)
    batch = model.inputs(unseen)["x"]
    np.testing.assert_allclose(batch, np.roll(seen, 3, 1), atol=1e-7)
    back = model.preprocess.restore(np.asarray(batch))
    # Truth values and bits come back as their probabilities.
    kept = np.float32 if form in ("bool", "bits") else x.dtype
    assert back.dtype == kept
    apart = np.abs(back[..., 0].astype(float) - unseen.astype(float)).max()
    assert apart <= 0.501 * STEP.get(form, 1 / 255)
    # Levels of uint8 are taken, whatever training had.
    levels = np.round(255 * seen).astype(np.uint8)
    np.testing.assert_allclose(model.inputs(levels)["x"], seen, atol=1e-7)


def test_holes_of_floats_are_nan_in_queries():
    x, _ = FORMS["signed"]
    model, seen = trained_on(x)
    holed = x.copy()
    holed[2, 3] = np.nan
    found = model.inputs(holed)
    np.testing.assert_array_equal(found["mask"][..., 0] == 0, np.isnan(holed))
    right = np.where(np.isnan(holed)[..., None], 0, seen)
    np.testing.assert_allclose(found["x"], right, atol=1e-7)


@pytest.mark.parametrize(
    ("trained", "given", "says"),
    [
        ("uint16", RIGHT / 255, "training were uint16, within 0 to 65535"),
        ("unit", RIGHT.astype(np.uint16), "training were float64, within 0 to 1"),
        ("unit", RIGHT / 1, "goes from 0 to 255: the pictures of training"),
        ("signed", RIGHT / 1, "within -1 to 1"),
        ("levels", RIGHT / 255, "nearly black where 255 is white"),
        ("uint16", RIGHT.astype(np.uint16), "nearly black where 65535 is white"),
        ("int64", (RIGHT > 99).astype(int), "nearly black where 255 is white"),
        ("uint8", RIGHT / 255, "use np.round(255 * x).astype(np.uint8)"),
        ("bool", RIGHT.astype(int), "within 0 to 1"),
    ],
)
def test_another_scale_than_that_of_training_is_refused(trained, given, says):
    model, _ = trained_on(RIGHT if trained == "uint8" else GIVEN[trained][0])
    with pytest.raises(InputError) as raised:
        model.inputs(given)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("form", ["uint16", "signed", "bool", "uint8"])
def test_files_are_read_and_filled_on_the_scale_of_training(form, tmp_path):
    x = RIGHT if form == "uint8" else GIVEN[form][0]
    model, seen = trained_on(x)
    mask = np.random.default_rng(1).integers(0, 2, x.shape).astype(np.uint8)
    np.savez(tmp_path / "in.npz", x=x, mask=mask)
    holey = open_array_table(tmp_path / "in.npz", model.dataset.spec)
    shown = np.where(mask[..., None], seen, 0)
    np.testing.assert_allclose(holey.x * holey.mask, shown, atol=1e-7)
    holey.write(seen, tmp_path / "out.npz")
    found = read_npz(tmp_path / "out.npz")["x"]
    assert found.dtype == x.dtype
    apart = np.abs(found.astype(float) - x.astype(float)).max()
    assert apart <= 0.501 * STEP.get(form, 0)
    # Complete ones are evaluated and encoded.
    np.savez(tmp_path / "in.npz", x=x)
    levels = read_own(tmp_path / "in.npz", model.dataset.spec)["x"]
    np.testing.assert_array_equal(levels, model.dataset.split("train")["x"])


def test_the_scale_is_kept_with_a_run_and_older_runs_have_none():
    spec = trained_on(FORMS["signed"][0])[0].dataset.spec
    again = Spec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again.pixels == spec.pixels == ("signed", "float32")
    older = {k: v for k, v in spec.to_json().items() if k != "pixels"}
    assert Spec.from_json(older).pixels is None
    assert trained_on(RIGHT)[0].dataset.spec.pixels is None
    for odd in (["signed", "object"], ["sined", "float32"], ["signed", "nothing"]):
        with pytest.raises(InputError, match="pixels cannot be"):
            Spec.from_json(spec.to_json() | {"pixels": odd})
