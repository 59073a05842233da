"""Settings: one flat signature for Python, the command line and config.json."""

import dataclasses
import inspect
import itertools
import types
from typing import Any

import pytest

from vaejax import presets
from vaejax.configs import Data, Latents, Network, Training, Weight
from vaejax.data import open_dataset
from vaejax.errors import InputError
from vaejax.presets import PRESETS
from vaejax.presets.signature import preset, presets_of


@dataclasses.dataclass(frozen=True)
class Record:
    """What a preset makes, as little as it may be."""

    network: Network
    training: Training
    depth: int
    name: str = ""
    arguments: Any = None


@preset
def toy(
    *,
    network: Network = Network(blocks=3),
    depth: int = 2,
    training: Training = Training(epochs=7),
) -> Record:
    """A preset of two groups and a lone setting."""
    return Record(network, training, depth)


def fields(*groups):
    return [f.name for group in groups for f in dataclasses.fields(group)]


def test_the_signature_is_flat():
    """Fields of the groups beside lone settings, with their defaults and types."""
    parameters = inspect.signature(toy).parameters
    assert [*parameters] == [*fields(Network), "depth", *fields(Training)]
    assert {p.kind for p in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}
    assert parameters["blocks"].default == 3 and parameters["epochs"].default == 7
    assert parameters["depth"].annotation is int
    assert parameters["hidden"].annotation == tuple[int, ...]
    assert toy.__name__ == "toy" and "two groups" in toy.__doc__


@pytest.mark.parametrize("name", [*PRESETS])
def test_no_preset_has_one_name_twice(name):
    """Else a field would hide another group's; and every setting has a default."""
    written = inspect.signature(inspect.unwrap(PRESETS[name])).parameters.values()
    flat = inspect.signature(PRESETS[name]).parameters
    assert len(flat) == sum(
        len(fields(p.default)) if dataclasses.is_dataclass(p.default) else 1
        for p in written
    )
    assert all(p.default is not p.empty for p in flat.values())


def test_settings_reach_their_group():
    made = toy(blocks=5, epochs=2, depth=9, hidden=(4, 3))
    assert made.network == Network(blocks=5, hidden=(4, 3))
    assert made.training == Training(epochs=2)
    assert made.depth == 9


def test_defaults_are_those_of_the_preset_not_of_the_group():
    made = toy(hidden=(4,), seed=1)
    assert made.network.blocks == 3 and made.training.epochs == 7


def test_whole_groups_are_accepted_too():
    """As a parsed command line has them; a lone word beside them counts as well."""
    network = Network(blocks=8, likelihood="gaussian")
    made = toy(network=network, depth=1, seed=5)
    assert made.network == network
    assert made.arguments["blocks"] == 8
    assert made.training == Training(epochs=7, seed=5)


def test_name_and_all_arguments_are_stamped():
    made = toy(blocks=5)
    assert made.name == "toy"
    assert [*made.arguments] == [*inspect.signature(toy).parameters]
    assert made.arguments["blocks"] == 5
    assert made.arguments["epochs"] == 7 and made.arguments["depth"] == 2


def test_stamped_arguments_make_the_same_again():
    made = toy(blocks=5, depth=4, hidden=(8, 8), ema=0.5)
    again = toy(**made.arguments)
    assert again == made


@pytest.mark.parametrize(
    ("given", "known"), [("block", "blocks"), ("epoch", "epochs"), ("dept", "depth")]
)
def test_an_unknown_setting_names_the_nearest(given, known):
    with pytest.raises(InputError, match=f"toy has no setting '{given}'.*{known}"):
        toy(**{given: 1})


def test_a_group_of_another_preset_is_an_unknown_setting():
    with pytest.raises(InputError, match="no setting 'weight'"):
        toy(weight=Weight())


@pytest.mark.parametrize(
    ("group", "field", "value"),
    [
        (Latents, "latents", 0),
        (Network, "hidden", ()),
        (Network, "hidden", (5, 0)),
        (Weight, "beta", -0.1),
        (Weight, "beta", float("nan")),
        (Weight, "warm_up", -1.0),
        (Training, "epochs", 0),
        (Training, "batch_size", 0),
        (Training, "evaluate_every", 0),
        (Training, "checkpoint_every", 0),
        (Training, "learning_rate", 0.0),
        (Training, "learning_rate", float("nan")),
        (Training, "clip", -1.0),
        (Training, "ema", 1.0),
        (Training, "ema", -0.1),
        (Training, "seed", -1),
        (Training, "patience", -1),
        (Training, "log_every", -1),
    ],
)
def test_a_value_out_of_range_names_its_flag(group, field, value):
    flag = field.replace("_", "-")
    with pytest.raises(InputError, match=f"^--{flag} is .*: it must be "):
        group(**{field: value})


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_an_impossible_validation_fraction_is_refused(fraction):
    with pytest.raises(InputError, match="validation"):
        open_dataset("mnist_5k", Data(validation=fraction).validation)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "cyclical"])
def test_a_schedule_needs_a_length(schedule):
    with pytest.raises(InputError, match=f"--schedule {schedule} needs a length"):
        Weight(schedule=schedule)
    assert Weight(schedule=schedule, warm_up=1.0).warm_up == 1.0


def test_the_least_allowed_values_are_allowed():
    Network(hidden=(1,))
    Latents(latents=1, prior="vamp", components=1)
    Weight(beta=0.0, warm_up=0.0)
    Training(epochs=1, batch_size=1, learning_rate=1e-9, clip=0, ema=0, seed=0)


def test_a_bad_value_is_refused_through_the_preset():
    with pytest.raises(InputError, match="--blocks is -1: it must be at least 0"):
        toy(blocks=-1)


def test_the_presets_of_a_family_are_public():
    for family in itertools.chain(*presets.FAMILIES.values()):
        found = presets_of(family)
        assert set(found) == set(family.__all__)
        assert all(getattr(presets, name) is make for name, make in found.items())


def test_what_is_no_preset_is_not_collected():
    """A preset of another module, and a function that is none."""
    family = types.ModuleType("family")
    family.vae, family.helper = presets.vae, lambda: None
    assert presets_of(family) == {}


def test_a_setting_has_one_meaning():
    """Flags are flat: two settings of one name would be one flag."""

    def make(*, training: Training = Training(), skip: bool = True):
        """A preset whose own setting hides one of a group."""

    with pytest.raises(TypeError, match="skip is a setting twice"):
        preset(make)
