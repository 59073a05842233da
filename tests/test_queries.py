"""Assumptions of queries: conditions, point masses, units, and what cannot be meant.

Weights are random, which changes no statement here; everything is compared with the
same numbers got another way, to the rounding of float32.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

import vaejax
from vaejax import parallel, presets
from vaejax.apply import query
from vaejax.apply.capabilities import weighs
from vaejax.apply.inputs import batch_of_examples, given_or_in_turn
from vaejax.apply.own import encode_own
from vaejax.data.context import seen_region
from vaejax.data.entries import checked_key, checked_x
from vaejax.distributions import Delta, Known, Normal, has_density
from vaejax.errors import InputError
from vaejax.models import conditions_of
from vaejax.training.evaluator import conditions_to_generate, held_out_examples
from vaejax.training.loop import first_state
from vaejax.training.stamp import check_stamp

KEY = jax.random.key(0)
SMALL = {"hidden": (8,), "latents": 2, "batch_size": 8, "epochs": 1}
SETTINGS = {"dataset": "digits", **SMALL}
CHEAP = settings(deadline=None, max_examples=100, derandomize=True)


def untrained(experiment):
    return experiment, first_state(experiment, parallel.make_mesh(1, 8))


@pytest.fixture(scope="module")
def cvae():
    return untrained(presets.cvae(**SETTINGS))


@pytest.fixture(scope="module")
def vae():
    return untrained(presets.vae(**SETTINGS, binarize="none"))


@pytest.fixture(scope="module")
def sohn():
    return untrained(presets.cvae_sohn(**SETTINGS))


@pytest.fixture(scope="module")
def any_part():
    return untrained(presets.vae_completion(**SETTINGS))


@pytest.fixture(scope="module")
def x(sohn):
    return held_out_examples(sohn[0], 6)["x"]


# Conditions


def test_a_model_says_what_it_is_conditioned_on(vae, cvae, sohn, any_part):
    assert conditions_of(vae[0].model) == ()
    assert conditions_of(cvae[0].model) == ("y",)
    assert conditions_of(sohn[0].model) == ("context", "seen")
    assert conditions_of(any_part[0].model) == ("context", "seen")


def test_the_context_follows_from_x_where_the_region_is_fixed(sohn, x):
    seen = np.broadcast_to(seen_region(8, 8, "quadrant"), x.shape)
    given = {"context": x * seen, "seen": seen}
    for ask in (
        lambda *more: vaejax.log_likelihood(*sohn, x, KEY, 5, *more),
        lambda *more: vaejax.reconstruct(*sohn, x, *more),
    ):
        np.testing.assert_array_equal(ask(), ask(given))
    rebuilt = np.asarray(vaejax.reconstruct(*sohn, x))
    np.testing.assert_array_equal(rebuilt[seen == 1], x[seen == 1])
    unlike = {"context": 1 - x, "seen": seen}  # what is given goes before what follows
    assert np.abs(vaejax.reconstruct(*sohn, x, unlike) - rebuilt).max() > 0.1


def test_what_is_not_seen_may_be_anything(sohn, x):
    seen = np.broadcast_to(seen_region(8, 8, "left"), x.shape)
    clean = vaejax.sample(*sohn, KEY, 6, given={"context": x * seen, "seen": seen})
    noisy = {"context": np.where(seen == 1, x, np.nan), "seen": seen}
    np.testing.assert_array_equal(vaejax.sample(*sohn, KEY, 6, given=noisy), clean)


def test_without_a_context_a_model_of_any_part_sees_nothing(any_part, x):
    """p(x | nothing), no black region [Ivanov et al. 2019, eq. 4]."""
    nothing = {"context": np.zeros(x.shape), "seen": np.zeros(x.shape)}
    x = x.round()
    for ask in (
        lambda given: vaejax.log_likelihood(*any_part, x, KEY, 5, given),
        lambda given: vaejax.encode(*any_part, x, given).mean,
        lambda given: vaejax.sample(*any_part, KEY, 6, given=given),
    ):
        np.testing.assert_array_equal(ask({}), ask(nothing))
    # A network that starts at random draws greys of about one half, and no black.
    assert vaejax.sample(*any_part, KEY, 6).min() > 0.05
    with pytest.raises(InputError, match=r"given=\{'seen'"):
        vaejax.sample(*any_part, KEY, 6, given={"context": x})


def test_codes_of_a_file_are_of_whole_examples(any_part, x, tmp_path):
    """Not of a part that chance has seen: the same as of the query."""
    raw = np.round(255 * x).astype(np.uint8)
    np.savez(tmp_path / "own.npz", x=raw)
    found = encode_own(*any_part, tmp_path / "own.npz")
    inputs = any_part[0].inputs(raw, key=jax.random.fold_in(KEY, 0))
    wanted = vaejax.encode(*any_part, inputs).mean
    np.testing.assert_allclose(found.mean, wanted, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_derived_is_asked_for(sohn, cvae, x):
    z = np.zeros((6, 2))
    for ask in (
        lambda: vaejax.sample(*sohn, KEY, 6),
        lambda: vaejax.decode(*sohn, z),
        lambda: query.draw_latents(*sohn, KEY, 6, {}),
        lambda: query.likelihood(*sohn, z),
    ):
        with pytest.raises(InputError, match=r"pass given=\{'context'"):
            ask()
    for ask in (
        lambda: vaejax.encode(*cvae, x.round()),
        lambda: vaejax.decode(*cvae, z),
        lambda: vaejax.reconstruct(*cvae, x.round()),
        lambda: vaejax.attribute(*cvae, x.round(), np.arange(6) > 2),
        lambda: vaejax.log_likelihood(*cvae, x.round(), KEY, 5),
    ):
        with pytest.raises(InputError, match=r"pass given=\{'y': labels\}"):
            ask()


def test_samples_to_judge_are_conditioned_properly(sohn, any_part, cvae):
    """On test examples where a region is given, on nothing, on classes in turn."""
    found = conditions_to_generate(sohn[0], 400)  # the test split has 359
    x, region = held_out_examples(sohn[0], 400)["x"], seen_region(8, 8, "quadrant")
    assert len(x) == 359
    again = x[np.arange(400) % 359]
    np.testing.assert_array_equal(found["context"], again * region)
    np.testing.assert_array_equal(found["seen"], np.broadcast_to(region, again.shape))
    assert not np.any(conditions_to_generate(any_part[0], 5)["seen"])
    np.testing.assert_array_equal(
        conditions_to_generate(cvae[0], 12)["y"], np.arange(12) % 10
    )


class Shifted(nn.Module):
    """A prior whose mean is an entry of the batch that no preset knows."""

    conditions = ("context",)

    @nn.compact
    def __call__(self, batch):
        shape = (batch["x"].shape[0], 2)
        return Normal(batch["context"].mean() + jnp.zeros(shape), jnp.ones(shape))


def test_the_rule_holds_for_models_of_ones_own(vae):
    experiment, state = vae
    model = experiment.model.clone(prior=Shifted())
    own = dataclasses.replace(experiment, model=model), state
    with pytest.raises(InputError, match=r"conditioned on context: pass given="):
        vaejax.sample(*own, KEY, 2)
    ones = {"context": np.ones((2, 8, 8, 1))}
    z = query.draw_latents(*own, KEY, 2, ones)
    np.testing.assert_allclose(z, query.draw_latents(*vae, KEY, 2, {}) + 1, rtol=1e-6)


# Point masses


def test_a_point_mass_says_that_it_has_no_density():
    normal, point = Normal(jnp.zeros(2), jnp.ones(2)), Delta(jnp.zeros(2))
    assert has_density(normal)
    assert not has_density(point)
    assert not has_density(Known(Delta(jnp.zeros((1, 2))), jnp.ones(2), jnp.ones(2)))


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("autoencoder", {}),
        ("aae", {}),
        ("ali", {"encoder": "deterministic"}),
        ("ali", {}),  # whose p(x | z) is a point mass
    ],
)
def test_a_point_mass_has_no_likelihood(name, more, x):
    experiment, state = untrained(presets.PRESETS[name](**SETTINGS, **more))
    for samples in (1, 5):
        with pytest.raises(InputError, match="point mass"):
            vaejax.log_likelihood(experiment, state, x.round(), KEY, samples)
    with pytest.raises(InputError, match="point mass"):
        vaejax.impute(experiment, state, x.round(), np.ones(x.shape), KEY)
    assert not weighs(experiment, state)
    found = experiment.metrics(5)
    assert "nll" not in found
    if name == "ali":
        values = found["autoencoding"].compute(found["autoencoding"].init())
        assert ("kl" in values) == (more == {})  # that of a point mass is infinite


# Units


def test_raw_pictures_are_refused_and_inputs_makes_them_right(vae, x):
    raw = np.round(255 * x).astype(np.uint8)
    inputs = vae[0].inputs(raw)
    np.testing.assert_allclose(inputs["x"], raw / 255, rtol=1e-6)
    np.testing.assert_array_equal(vae[0].preprocess.restore(inputs["x"]), raw)
    np.testing.assert_array_equal(
        vaejax.encode(*vae, inputs).mean, vaejax.encode(*vae, inputs["x"]).mean
    )
    np.testing.assert_array_equal(vae[0].inputs(raw[..., 0])["x"], inputs["x"])
    for wrong in (raw, raw.astype(float), raw // 255, 2 * x - 1):
        with pytest.raises(InputError, match=r"experiment\.inputs\(x\)"):
            vaejax.encode(*vae, wrong)
    with pytest.raises(InputError, match=r"x\.clip\(0, 1\)"):
        vaejax.encode(*vae, 1.01 * np.ones_like(x))


WRONG = {
    "lone": (lambda x: x[0], r"x\[None\]"),
    "flat": (lambda x: x.reshape(len(x), -1), r"x\.reshape\(-1, 8, 6, 1\)"),
    "transposed": (lambda x: x.swapaxes(1, 2), r"np\.swapaxes\(x, 1, 2\)"),
    "channels first": (lambda x: np.moveaxis(x, -1, 1), r"np\.moveaxis\(x, 1, -1\)"),
    "no channel": (lambda x: x[..., 0], r"x\[\.\.\., None\]"),
    "empty": (lambda x: x[:0], "empty"),
    "infinite": (lambda x: x + np.inf, "infinite"),
    "huge": (lambda x: x + 1e300, "infinite"),
    "texts": (lambda x: x.astype(str), "dtype"),
    "complex": (lambda x: x + 1j, "dtype"),
    "dictionary": (lambda x: {"images": x}, "no entry 'x'"),
}


@pytest.fixture(scope="module")
def oblong():
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 6)).astype(np.uint8)
    data = vaejax.from_arrays(x, np.arange(40) % 3)
    return untrained(presets.cvae(dataset=data, **SMALL, binarize="none"))


@pytest.mark.parametrize("name", WRONG)
def test_arrays_that_cannot_be_meant(name, oblong):
    make, message = WRONG[name]
    x = np.random.default_rng(1).random((4, 8, 6, 1))
    y = {"y": np.arange(4) % 3}
    for ask in (
        lambda bad: vaejax.encode(*oblong, bad, y),
        lambda bad: vaejax.reconstruct(*oblong, bad, y),
        lambda bad: vaejax.log_likelihood(*oblong, bad, KEY, 2, y),
        lambda bad: vaejax.attribute(*oblong, bad, np.arange(4) > 1, y),
    ):
        with pytest.raises(InputError, match=message) as caught:
            ask(make(x))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (pd.DataFrame({"a": [1.0]}), r"DataFrame: .* experiment\.inputs\(rows\)"),
        ("pictures.npz", "give an array"),
        ([[1.0], [1.0, 2.0]], "differ in length"),
    ],
)
def test_what_is_no_array(x, message, oblong):
    with pytest.raises(InputError, match=message):
        checked_x(x, oblong[0].dataset.spec)


GIVEN = {
    "unknown": ({"label": [0, 1, 2, 0]}, "no entry 'label'"),
    "few": ({"y": [0, 1]}, "2 labels for 4 examples"),
    "scalar": ({"y": 1}, "shape"),
    "column": ({"y": np.zeros((4, 1))}, "shape"),
    "too large": ({"y": [0, 1, 2, 3]}, "holds 3: the classes are 0 to 2"),
    "negative": ({"y": [0, 1, 2, -2]}, "holds -2"),
    "floats": ({"y": np.array([0.0, 1.0, 2.0, 0.0])}, "whole numbers or texts"),
    "truth": ({"y": np.ones(4, bool)}, "whole numbers or texts"),
    "names": ({"y": ["zero", "one", "two", "one"]}, "no class 'zero'"),
    "objects": ({"y": [None, 1, 2, 0]}, "dtype object"),
    "nothing": ({"y": None}, "dtype object"),
    "ragged": ({"y": [[0], [1, 2]]}, "y is no array"),
    "NaN": ({"y": np.full((4, 3), np.nan)}, "not finite"),
    "mask": ({"y": [0, 1, 2, 0], "mask": np.ones((4, 8))}, "has shape"),
    "shares": ({"y": [0, 1, 2, 0], "mask": np.full((4, 8, 6, 1), 0.5)}, "1 and 0"),
}


@pytest.mark.parametrize("name", GIVEN)
def test_conditions_that_cannot_be_meant(name, oblong):
    given, message = GIVEN[name]
    x = np.random.default_rng(1).random((4, 8, 6, 1))
    for ask in (
        lambda: vaejax.encode(*oblong, x, given),
        lambda: vaejax.decode(*oblong, np.zeros((4, 2)), given),
        lambda: vaejax.sample(*oblong, KEY, 4, given=given),
        lambda: vaejax.log_likelihood(*oblong, x, KEY, 2, given),
    ):
        with pytest.raises(InputError, match=message):
            ask()


def test_conditions_without_a_name(oblong):
    """As labels in place of the mapping; `sample` completes what is given."""
    x = np.zeros((4, 8, 6, 1))
    for given in ([0, 1, 2, 0], None, np.arange(4), "y"):
        for ask in (
            lambda wrong: batch_of_examples(oblong[0], x, wrong),
            lambda wrong: given_or_in_turn(oblong[0], 4, wrong),
        ):
            with pytest.raises(InputError, match=r"given=\{'y': labels\}"):
                ask(given)
    with pytest.raises(InputError, match="no entry 1"):
        batch_of_examples(oblong[0], x, {1: [0, 1, 2, 0]})


def test_numbers_and_keys_that_cannot_be_meant(vae, x):
    for num in (0, -1, 2.5):
        with pytest.raises(InputError, match="num"):
            vaejax.sample(*vae, KEY, num)
    for z in (np.zeros(2), np.zeros((3, 5)), np.zeros((0, 2)), np.full((1, 2), np.nan)):
        with pytest.raises(InputError, match="z has"):
            vaejax.decode(*vae, z)
    with pytest.raises(InputError, match="samples"):
        vaejax.log_likelihood(*vae, x, KEY, 0)
    with pytest.raises(InputError, match=r"jax\.random\.key"):
        checked_key(0)
    for has in (np.ones(3, bool), np.full(6, 0.5)):
        with pytest.raises(InputError, match="for each of the 6 examples"):
            vaejax.attribute(*vae, x, has)
    with pytest.raises(InputError, match="shape"):
        vaejax.impute(*vae, x, np.ones(3), KEY)
    with pytest.raises(InputError, match="x has dtype <U"):
        vaejax.impute(*vae, x.astype(str), np.ones(x.shape), KEY)
    with pytest.raises(InputError, match="x is no array"):
        vaejax.impute(*vae, [[1.0], [1.0, 2.0]], np.ones((2, 1)), KEY)
    for key in (None, 0, np.arange(2), jax.random.split(KEY, 2), jnp.zeros(2)):
        with pytest.raises(InputError, match=r"jax\.random\.key") as caught:
            vaejax.impute(*vae, x, np.ones(x.shape), key)
        assert "\n" not in str(caught.value)
    for path in (None, 3, "a\0"):
        with pytest.raises(InputError, match="a path"):
            vaejax.load(path)
        with pytest.raises(InputError, match="a path"):
            vaejax.report(path)


def test_nan_and_numpys_masks_are_holes(vae, x):
    mask = np.random.default_rng(2).random(x.shape) < 0.7
    by_hand = {"x": np.where(mask, x, 0), "mask": mask}
    wanted = vaejax.log_likelihood(*vae, by_hand, KEY, 5)
    assert np.isfinite(wanted).all()
    for holey in (
        np.where(mask, x, np.nan),
        np.ma.masked_array(np.where(mask, x, -9999), mask=~mask),
    ):
        found = vaejax.log_likelihood(*vae, holey, KEY, 5)
        np.testing.assert_array_equal(found, wanted)
    assert not np.array_equal(vaejax.log_likelihood(*vae, x, KEY, 5), wanted)


# Tables

ROWS = "temp,load,sex\n" + "".join(
    f"{20 + n % 7}.5,{40 + 3 * (n % 11)},{'fm'[n % 2]}\n" for n in range(60)
)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "t.csv"
    path.write_text(ROWS)
    settings = SMALL | {"dataset": f"csv:{path}"}
    return untrained(presets.vae(**settings)), pd.read_csv(path)


def test_rows_in_their_own_units(table):
    (experiment, state), frame = table
    spec = experiment.dataset.spec
    by_hand = np.stack(
        [
            (frame["temp"] - spec.mean[0]) / spec.scale[0],
            (frame["load"] - spec.mean[1]) / spec.scale[1],
            (frame["sex"] == "m").astype(float),
        ],
        1,
    ).astype(np.float32)
    inputs = experiment.inputs(frame[["sex", "load", "temp"]])  # found by their names
    np.testing.assert_allclose(inputs["x"], by_hand, rtol=1e-6, atol=1e-6)
    restored = experiment.preprocess.restore(np.asarray(inputs["x"]))
    np.testing.assert_allclose(restored[:, 0], frame["temp"], rtol=1e-6)
    np.testing.assert_allclose(
        vaejax.encode(experiment, state, inputs).mean,
        vaejax.encode(experiment, state, by_hand).mean,
        rtol=1e-5,
        atol=1e-6,
    )
    raw = restored.copy()
    with pytest.raises(InputError, match=r"column 'temp'.*experiment\.inputs\(x\)"):
        vaejax.encode(experiment, state, raw)
    with pytest.raises(InputError, match="column 'sex' of x holds"):
        vaejax.encode(experiment, state, by_hand + np.array([0, 0, 2]))
    assert vaejax.encode(experiment, state, {"x": raw}).mean.shape == (60, 2)


def test_holes_of_rows(table):
    (experiment, state), frame = table
    holey = frame.copy()
    holey.loc[3, "temp"], holey.loc[5, "sex"] = np.nan, None
    inputs = experiment.inputs(holey)
    mask = np.ones((60, 3))
    mask[3, 0] = mask[5, 2] = 0
    np.testing.assert_array_equal(inputs["mask"], mask)
    assert float(inputs["x"][3, 0]) == float(inputs["x"][5, 2]) == 0
    assert np.isfinite(vaejax.log_likelihood(experiment, state, inputs, KEY, 2)).all()
    with pytest.raises(InputError, match="training did not see"):
        experiment.inputs(frame.replace("f", "x"))
    with pytest.raises(InputError, match="lacks"):
        experiment.inputs(frame[["temp"]])
    with pytest.raises(InputError, match="give numbers"):
        experiment.inputs(np.array([["a", "b", "c"]]))


def test_labels_and_masks_of_pictures(oblong):
    experiment = oblong[0]
    raw = np.random.default_rng(3).integers(0, 256, (4, 8, 6), np.uint8)
    mask = np.ones((4, 8, 6))
    mask[0, 0] = 0
    inputs = experiment.inputs(raw, [2, 1, 0, 2], mask=mask)
    np.testing.assert_array_equal(inputs["y"], [2, 1, 0, 2])
    np.testing.assert_array_equal(inputs["mask"][..., 0], mask)
    np.testing.assert_allclose(inputs["x"][..., 0], raw / 255 * mask, rtol=1e-6)
    assert vaejax.encode(*oblong, inputs).mean.shape == (4, 2)
    samples = vaejax.sample(*oblong, KEY, 4, given=inputs)
    again = vaejax.sample(*oblong, KEY, 4, given={"y": [2, 1, 0, 2]})
    np.testing.assert_array_equal(samples, again)
    dark = experiment.inputs(raw // 16)  # few pictures may be dark; training may not
    np.testing.assert_allclose(dark["x"][..., 0], raw // 16 / 255, rtol=1e-6)
    for bad, message in (
        (lambda: experiment.inputs(raw, [0, 1]), "one label to each"),
        (lambda: experiment.inputs(raw, [0, 1, 2, 3]), "no class '3'"),
        (lambda: experiment.inputs(raw / 255), "dtype float64"),
        (lambda: experiment.inputs(raw[0]), "shape"),
        (lambda: experiment.inputs(raw.swapaxes(1, 2)), "shape"),
        (lambda: experiment.inputs(raw[:0]), "empty"),
        (lambda: experiment.inputs(raw, mask=np.full((4, 8, 6), 2)), "mask"),
    ):
        with pytest.raises(InputError, match=message):
            bad()


SHAPES = arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=8)
KINDS = st.sampled_from(["f4", "f8", "i4", "u1", "?", "U2", "O", "M8[s]"])


@CHEAP
@drawn(x=st.tuples(KINDS, SHAPES).flatmap(lambda some: arrays_of.arrays(*some)))
def test_any_array_is_a_batch_or_one_line(x, oblong):
    experiment = oblong[0]
    y = {"y": np.zeros(len(x) if x.ndim else 0, np.int32)}
    try:
        batch = batch_of_examples(experiment, x, y)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        values = np.asarray(batch["x"])
        assert values.shape[1:] == experiment.dataset.spec.shape
        assert ((values >= -1e-6) & (values <= 1 + 1e-6)).all()


LONE = (
    st.none() | st.booleans() | st.integers(-2, 4) | st.floats() | st.text(max_size=2)
)
ANYTHING = (
    LONE
    | st.lists(LONE | st.lists(LONE, max_size=2), max_size=5)
    | st.integers(0, 2).map(lambda k: [k] * 4)
    | st.lists(LONE, max_size=4).map(lambda some: np.array(some, object))
    | LONE.map(lambda one: np.array(one, object))
    | st.tuples(KINDS, SHAPES).flatmap(lambda some: arrays_of.arrays(*some))
    | st.sampled_from([np.ones((4, 8, 6, 1)), np.zeros((4, 8, 6)), KEY, {}, b"\xff"])
)
NAMED = st.sampled_from(
    ["y", "mask", "context", "seen", "x", "index", "label", 1, None]
)


@CHEAP
@drawn(given=st.dictionaries(NAMED, ANYTHING, max_size=3) | ANYTHING)
def test_anything_given_is_a_batch_or_one_line(given, oblong):
    try:
        batch = batch_of_examples(oblong[0], np.zeros((4, 8, 6, 1)), given)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert batch["x"].shape == (4, 8, 6, 1)
        assert batch["y"].shape in ((4,), (4, 3))


@CHEAP
@drawn(x=ANYTHING, y=ANYTHING, mask=ANYTHING, alone=st.booleans())
def test_anything_is_an_input_or_one_line(x, y, mask, alone, oblong):
    x = x if alone else np.zeros((4, 8, 6), np.uint8)
    try:
        found = oblong[0].inputs(x, y, mask=mask)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert found["x"].shape[1:] == (8, 6, 1)
        assert "y" not in found or found["y"].shape == found["x"].shape[:1]


# Experiments that no preset makes


def test_an_exchanged_model_is_kept_in_no_workdir(tmp_path):
    experiment = presets.vae(**SETTINGS, validation=0.1, hide="mcar")
    other = presets.vae(**SETTINGS | {"hidden": (9,)})
    swapped = dataclasses.replace(experiment, model=other.model)
    folder = tmp_path / "run"
    with pytest.raises(InputError, match="model did not come from vae") as caught:
        vaejax.train(swapped, folder, quiet=True, devices=1)
    assert "\n" not in str(caught.value)
    assert not folder.exists()
    slower = dataclasses.replace(experiment.training, learning_rate=1e-5)
    for changed in ({"training": slower}, {"players": {}}):
        with pytest.raises(InputError, match=f"{next(iter(changed))} did not"):
            check_stamp(dataclasses.replace(experiment, **changed))
    check_stamp(experiment)
