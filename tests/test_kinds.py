"""Kinds of data: code asks for facts of a kind, so that a new kind is one entry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vaejax
from tests.studies.house import kind_tests, sources
from tests.test_presets import game, host
from vaejax import InputError, plots
from vaejax.data.dataset import in_memory
from vaejax.data.kinds import KINDS, Kind, by_kind, with_channels
from vaejax.data.spec import Spec

KEY = jax.random.key(3)
SHAPE = (12, 2)


def spec_of(kind, shape):
    return Spec("set", kind, shape, 256, 0, {"train": 32, "test": 16}, "0")


def test_no_code_compares_the_name_of_a_kind():
    """Columns have kinds, too; those are of columns."""
    assert kind_tests(sources()) == []


@pytest.fixture
def series(monkeypatch):
    """A kind that the package does not know: 8-bit signals of two channels."""
    kind = Kind(("time", "channels"), np.uint8, jnp.uint8, (".npz",), scaled=True)
    monkeypatch.setitem(KINDS, "series", kind)
    spec = spec_of("series", SHAPE)._replace(nearly_binary=False)
    x = np.random.default_rng(0).integers(0, 256, (48, 24), np.uint8)
    return in_memory(spec, {"train": {"x": x[:32]}, "test": {"x": x[32:]}})


def test_a_third_kind_is_one_entry(series):
    """It trains, is drawn from and weighed; what only images have is refused."""
    spec = series.spec
    assert Spec.from_json(spec.to_json()) == spec
    experiment = vaejax.presets.vae(
        dataset=series, hidden=(8,), latents=2, batch_size=8, likelihood="gaussian"
    )
    state, step = game(experiment, devices=1)
    # Its arguments are donated.
    before = host(state.params)
    state = step(state)[0]
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), before, host(state.params))
    assert min(jax.tree.leaves(moved)) > 0
    x = experiment.inputs(series.split("test")["x"].reshape(-1, *SHAPE))
    np.testing.assert_array_equal(
        np.round(np.asarray(x["x"]) * 255).reshape(16, -1), series.split("test")["x"]
    )
    assert vaejax.reconstruct(experiment, state, x).shape == (16, *SHAPE)
    assert vaejax.sample(experiment, state, KEY, 3).shape == (3, *SHAPE)
    assert vaejax.log_likelihood(experiment, state, x, KEY, 3).shape == (16,)
    with pytest.raises(InputError, match="samples needs images or tables: set is a s"):
        plots.samples(experiment, state)
    with pytest.raises(InputError, match="--body conv needs images: set is a series"):
        vaejax.presets.vae(dataset=series, body="conv", likelihood="gaussian")


def test_a_description_of_an_unknown_kind_is_refused():
    fields = spec_of("image", (4, 4, 1)).to_json()
    for wrong in ({"kind": "song"}, {"shape": [4, 4]}, {"kind": "table"}):
        with pytest.raises(InputError, match=r"data\.\w+ cannot be that of a data set"):
            Spec.from_json(fields | wrong)


def test_a_use_looks_the_kind_up():
    found = by_kind(spec_of("table", (3,)), {"image": 1, "table": 2}, "counting")
    assert found == 2


def test_images_of_one_channel_need_not_name_it():
    x = np.zeros((5, 4, 4))
    assert with_channels(x, spec_of("image", (4, 4, 1))).shape == (5, 4, 4, 1)
    assert with_channels(x[..., None], spec_of("image", (4, 4, 1))).ndim == 4
    assert with_channels(x[0], spec_of("table", (4,))).shape == (4, 4)
