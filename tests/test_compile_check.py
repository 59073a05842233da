"""What compilations for absent TPUs say, and whether it is read aright."""

import json
import math
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from tests.test_scripts import refused
from vaejax import InputError, from_arrays, parallel, presets
from vaejax.aot import check, hlo, program, report, roofline, topology
from vaejax.aot.chips import CHIPS
from vaejax.aot.roofline import Need
from vaejax.data import open_dataset
from vaejax.data.feed import resident_feed

TESTS = Path(__file__).parent
SMALL = "vae --dataset digits --hidden 16 --latents 2"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The reports of `aot_cases`, from a process of its own."""
    if find_spec("libtpu") is None:
        pytest.skip("needs libtpu: pip install 'vaejax[aot]'")
    done = subprocess.run(
        [sys.executable, "-m", "tests.aot_cases"],
        capture_output=True,
        text=True,
        cwd=TESTS.parent,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_step_on_a_slice_is_split_and_donated(compiled):
    for name, players in (("sound", 1), ("game", 3)):
        found = compiled[name]
        assert found["problems"] == []
        assert 1 <= found["program"]["collectives"]["all-reduce"] <= 2 * players
        assert found["players"] == players
        assert 1 <= len(found["gradients"]) <= 2 * players
        assert sum(found["gradients"]) >= 4 * found["parameters"]
        assert found["donated"] == found["state"]
        # An eighth of the batch's work, and what every device does whole.
        assert 1 / 8 <= found["share"][0] < 1 / 4
        # The gradients of all parameters, float32, around a ring of eight.
        assert found["program"]["sent"] >= 2 * 7 / 8 * 4 * found["parameters"]


def test_a_state_in_parts_is_gathered_and_its_gradient_scattered(compiled):
    found, whole = compiled["parts"], compiled["wide"]
    assert found["problems"] == []
    assert found["program"]["collectives"].keys() >= {"all-gather", "reduce-scatter"}
    assert 1 / 8 <= found["share"][0] < 1 / 4
    assert found["donated"] == found["state"]
    # Four devices share what is large; each has the biases and the kernel of z.
    small = 4 * (4 * 256 + 2 * 8 + 64 + 8 * 256)
    assert whole["held"] == 4 * whole["parameters"]
    assert found["held"] == (whole["held"] - small) / 4 + small
    assert f"{found['fsdp']} devices share" in "".join(found["text"])
    # All is gathered, parts of the gradient summed in two groups, and biases by all.
    assert found["program"]["sent"] > whole["held"]


def test_a_step_that_is_not_split_is_found_out(compiled):
    copied, drawn = compiled["copied"], compiled["drawn"]
    assert copied["share"][0] == pytest.approx(1, abs=0.01)
    assert any("the data is not split" in line for line in copied["problems"])
    assert drawn["program"]["collectives"] == {}
    assert any("not data-parallel" in line for line in drawn["problems"])


def test_a_state_that_is_not_donated_is_found_out(compiled):
    assert compiled["undonated"]["donated"] == 0
    problems = compiled["undonated"]["problems"]
    assert any("not donated" in line for line in problems)


def test_a_batch_that_is_too_large_is_told_from_one_that_fits(compiled):
    found = compiled["large"]
    assert found["program"] is None
    first, *_ = found["needs"]
    assert not first["fits"]
    assert first["needed"] > 16 * 2**30
    assert found["largest"] % 8 == 0
    assert 2_000_000 < found["largest"] < found["batch"]
    (problem,) = found["problems"]
    assert f"--batch-size {found['largest']} fits" in problem


def test_an_encoding_takes_at_least_its_products_in_float32(compiled):
    found, chip = compiled["encoding"], CHIPS["v5e"]
    # 512 digits of 64 pixels by 16 units to two means, and a few operations on each of
    # these numbers: the sigmoid of a unit takes most.
    products, numbers = 2 * 512 * (64 * 16 + 16 * 2), 512 * (64 + 16 + 2)
    assert products <= found["flops"] <= products + 12 * numbers
    times = found["times"]
    assert times["compute"] == pytest.approx(6 * found["flops"] / chip.flops)
    assert times["memory"] == pytest.approx(found["accessed"] / chip.bandwidth)
    assert times["network"] == 0
    slowest = max(times["compute"], times["memory"])
    assert found["speed"] == pytest.approx(512 / slowest)
    assert found["text"].startswith("512 examples on a device, f32: ")
    short = compiled["encoding_in_bf16"]
    assert short["times"]["compute"] == pytest.approx(short["flops"] / chip.flops)
    assert products <= short["flops"] < 2 * products
    assert short["text"].startswith("512 examples on a device, bf16: ")


def test_an_encoding_that_does_not_fit_is_told(compiled):
    found = compiled["encoding_of_more"]
    assert found["needed"] > 16 * 2**30
    assert found["times"] is found["speed"] is None
    assert "does not fit" in found["text"]


def test_without_a_search_no_batch_is_called_the_largest(compiled):
    found = compiled["sound"]
    assert found["largest"] == found["batch"] and len(found["needs"]) == 1
    (line,) = (line for line in found["text"] if "largest batch" in line)
    assert line.endswith("of the memory, and no larger one was tried")


def test_every_suggested_name_is_a_slice_of_so_many_devices(compiled):
    assert compiled["misnamed"] == []


def test_what_is_compiled_has_the_shapes_of_the_data():
    table = np.random.default_rng(0).normal(size=(40, 3))
    holey = from_arrays(np.where(table > 1, np.nan, table), np.arange(40) % 3)
    hidden = presets.miwae(dataset="breast_cancer", hide="mcar").dataset
    for dataset in (open_dataset("digits"), holey, hidden):
        real = dataset.split("train")
        shapes = program.examples_of(dataset.spec)
        assert {n: (a.shape, a.dtype) for n, a in shapes.items()} == {
            n: (a.shape, a.dtype) for n, a in real.items()
        }


@pytest.mark.devices
def test_no_example_is_read():
    """The stand-in raises where one is."""
    experiment = presets.vae_conv(dataset=report.stand_in("1000x8x8x3"), batch_size=8)
    mesh = parallel.make_mesh(4, 8)
    feed = resident_feed(program.examples_of(experiment.dataset.spec), 8, 0)
    steps = program.scan(experiment, feed, mesh)
    traced = steps.trace(*program.arguments(experiment, mesh, 8))
    # One loop, also of convolutions, which a CPU would run step by step.
    assert "scan[" in str(traced.jaxpr)
    assert "conv_general_dilated" in str(traced.jaxpr)


EXCHANGES = {
    "all-reduce": (lambda x: jax.lax.psum(x, "data"), P(), 6 * 4),
    "all-gather": (lambda x: jax.lax.all_gather(x, "data"), P("data"), 4 * 6 * 4),
    "reduce-scatter": (
        lambda x: jax.lax.psum_scatter(x, "data", tiled=True),
        P("data"),
        2 * 3 * 4,
    ),
    "all-to-all": (
        lambda x: jax.lax.all_to_all(x, "data", 0, 0, tiled=True),
        P("data"),
        8 * 3 * 4,
    ),
    "collective-permute": (
        lambda x: jax.lax.ppermute(x, "data", [(0, 1), (1, 0)]),
        P("data"),
        6 * 4,
    ),
}


@pytest.mark.devices
@pytest.mark.parametrize("kind", EXCHANGES)
def test_exchanges_are_read_from_a_real_program(kind):
    function, out, size = EXCHANGES[kind]
    rows = {"reduce-scatter": 8, "all-to-all": 8}.get(kind, 2)
    mesh = parallel.make_mesh(4, 4)
    specs = {"in_specs": P("data"), "out_specs": out, "check_vma": False}
    x = jnp.zeros((4 * rows, 3))
    made = jax.jit(jax.shard_map(function, mesh=mesh, **specs)).lower(x).compile()
    (found,) = hlo.collectives(made.as_text())
    assert (found.kind, found.size) == (kind, size)


STARTED = """
  %ar = (f32[784]{0:T(1024)S(1)}, bf16[512,784]{0,1:T(8,128)}, /*index=2*/f32[]{:T(8)})
 all-reduce-start(%a, %b, %c), channel_id=1, metadata={op_name="x/all-reduce"}
  %g = (f32[2,3]{1,0}, f32[8,3]{1,0}) all-gather-start(%d), dimensions={0}
  ROOT %p = (s32[5]{0}, s32[5]{0}, u32[], u32[]) collective-permute-start(%e)
  %f = f32[3] fusion(%all-reduce.14), kind=kLoop, calls=%fused
  %done = f32[3] all-reduce-done(%ar)
""".replace("\n all-reduce-start", " all-reduce-start")


def test_exchanges_that_are_started_count_once():
    found = hlo.collectives(STARTED)
    assert [each.kind for each in found] == [
        *("all-reduce", "all-gather", "collective-permute")
    ]
    assert [each.size for each in found] == [
        *(4 * 784 + 2 * 512 * 784 + 4, 4 * 24, 4 * 5)
    ]
    assert found[0].counts == (784, 512 * 784, 1)


GROUPS = {
    "replica_groups={{0,1,2,3},{4,5,6,7}}, use_global_device_ids=true": 4,
    "channel_id=3, replica_groups=[2,16]<=[32], dimensions={0}": 16,
    "replica_groups=mesh['axis_0'=4,'axis_1'=1,'axis_2'=2], "
    "device_ids=([2,4]T(1,0)) {'axis_0','axis_2'}, dimensions={0}": 8,
    "replica_groups=mesh['axis_0'=8,'axis_1'=1] {'axis_0'}, to_apply=%add": 8,
    "replica_groups={}, to_apply=%add": 0,
}


@pytest.mark.parametrize("attributes", GROUPS)
def test_the_devices_that_exchange_are_counted(attributes):
    assert hlo.group_of(attributes) == GROUPS[attributes]


@pytest.mark.devices
def test_groups_are_read_from_a_real_program():
    mesh = jax.make_mesh((2, 4), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
    both = P(("data", "fsdp"))
    for axis, size in (("data", 2), ("fsdp", 4), (("data", "fsdp"), 8)):
        function = partial(jax.lax.psum, axis_name=axis)
        specs = {"in_specs": both, "out_specs": P(), "check_vma": False}
        shared = jax.jit(jax.shard_map(function, mesh=mesh, **specs))
        made = shared.lower(jnp.zeros((8, 3))).compile()
        (found,) = hlo.collectives(made.as_text())
        assert found.group == size


CHAINED = """
%begun (p: f32[2,3]) -> f32[8,3] {
  %g1 = f32[8,3] all-gather(%p), channel_id=6, frontend_attributes={chain_id="2"}
}

%along (p: f32[2,3]) -> f32[8,3] {
  %g2 = f32[8,3] all-gather(%p), channel_id=6, frontend_attributes={chain_id="2"}
  %g3 = f32[8,3] all-gather(%q), channel_id=7, frontend_attributes={chain_id="3"}
}

%all-reduce-scatter.3 (p: f32[8,3]) -> f32[2,3] {
  %r = f32[8,3] all-reduce(%p), channel_id=1, replica_groups={{0,1,2,3},{4,5,6,7}}
}
"""


def test_chains_count_once_and_what_is_scattered_is_told():
    gathered, other, scattered = hlo.collectives(CHAINED)
    assert (gathered.kind, other.kind) == ("all-gather", "all-gather")
    assert scattered == hlo.Collective("reduce-scatter", (6,), 24, group=4)
    assert scattered.sent(8) == 3 / 4 * 8 * 3 * 4


def test_gradients_are_told_from_statistics():
    kernel, flat, statistics = (
        hlo.Collective("all-reduce", counts, 0)
        for counts in ((64, 288), (9000,), (64, 64))
    )
    gathered = hlo.Collective("all-gather", (288,), 0)
    found = [kernel, flat, statistics, gathered]
    assert hlo.of_weights(found, {288, 512}) == [kernel, flat]


@pytest.mark.parametrize("devices", [2, 8])
def test_what_is_sent_is_what_a_ring_sends(devices):
    """Counted in a simulation: partial sums go around, then the sums."""
    rng = np.random.default_rng(0)
    own = rng.normal(size=(devices, devices, 5))  # [device, chunk, numbers]
    total, sent = own.sum(0), 0
    for phase, combine in enumerate((np.add, lambda mine, got: got)):
        for turn in range(devices - 1):
            moving = [
                own[d, (d - turn + phase) % devices].copy() for d in range(devices)
            ]
            for d, chunk in enumerate(moving):
                at = (d + 1) % devices, (d - turn + phase) % devices
                own[at] = combine(own[at], chunk)
            sent += moving[0].nbytes
    np.testing.assert_allclose(own, np.broadcast_to(total, own.shape))
    found = hlo.Collective("all-reduce", (), size=total.nbytes)
    assert found.sent(devices) == pytest.approx(sent)


def test_donated_arguments_are_read_from_a_real_program():
    move = jax.jit(lambda a, b, c: (a + 1, b * c), donate_argnums=(0, 2))
    made = move.lower(*(jnp.zeros(3),) * 3).compile()
    assert hlo.aliased(made.as_text()) == {0, 2}
    kept = jax.jit(lambda a: a + 1).lower(jnp.zeros(3)).compile()
    assert hlo.aliased(kept.as_text()) == set()


def test_more_arguments_than_a_tpu_takes_one_by_one_are_a_tuple(compiled):
    assert compiled["of_many_arguments"] == [*range(1, 2002)]


def test_loops_are_counted_in_a_real_program():
    def step(x, _):
        inside, _ = jax.lax.scan(lambda y, _: (jnp.cos(y @ y), None), x, length=5)
        return inside + 1, None

    many = jax.jit(lambda x: jax.lax.scan(step, x, length=3)[0])
    assert hlo.loops(many.lower(jnp.ones((4, 4))).compile().as_text()) == 2
    assert hlo.loops(jax.jit(jnp.cos).lower(1.0).compile().as_text()) == 0


def test_the_roofline_is_the_slowest_of_three():
    chip = CHIPS["v5e"]
    second = (chip.flops, chip.bandwidth, chip.network)
    for place, name in enumerate(("compute", "memory", "network")):
        work = [0.5 * w for w in second]
        work[place] *= 6
        found = roofline.times(chip, *work)
        assert (found.bound, found.seconds) == (name, pytest.approx(3))
        assert sum(found) == pytest.approx(4)


def tiled(part):
    """Bytes that grow in steps, as with tiles, and what no batch changes."""
    return 300.0 + 7 * 8 * -(-part // 8)


ROOM, MOST = 10_000.0, 1384


def test_what_most_is():
    assert tiled(MOST) <= ROOM < tiled(MOST + 1)


@pytest.mark.parametrize("first", [1, 8, 100, 5000])
@pytest.mark.parametrize("cap", [60, 10**6])
@pytest.mark.parametrize("hint", [None, 8, 500])
def test_the_largest_batch_is_found_in_few_compilations(first, cap, hint):
    asked = []

    def need(part):
        asked.append(part)
        return Need(part, tiled(part), tiled(part) <= ROOM)

    known = need(min(first, cap))
    alone = hint and Need(hint, tiled(hint) - 50, True)
    part, _ = roofline.largest(need, known, ROOM, cap, alone)
    exact = min(MOST, cap)
    assert 0.89 * exact <= part <= exact
    assert part in asked
    assert len(asked) <= 6
    assert max(asked) <= cap


def test_no_batch_is_advised_where_none_fits():
    part, asked = roofline.largest(
        lambda part: Need(part, math.inf, False), Need(64, math.inf, False), 1e9, 64
    )
    assert part == 0
    assert [each.part for each in asked] == [64, 32, 16, 8, 4, 2]


def test_without_tries_nothing_more_is_compiled():
    def need(part):
        raise AssertionError(part)

    for fits in (True, False):
        first = Need(8, 100.0, fits)
        part, asked = roofline.largest(need, first, 1e9, 500, tries=0)
        assert part == 8 * fits and asked == [first]


def test_memory_that_does_not_grow_goes_to_the_whole_split():
    first, hint = Need(8, 100.0, True), Need(64, 100.0, True)
    same = lambda part: Need(part, 100.0, True)
    assert roofline.largest(same, first, 1e9, 500, hint)[0] == 500


SAID = {
    "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
    "temporaries (96.45G) exceeds available HBM (15.75G).": (96.45, 15.75),
    "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: XLA:TPU compile permanent error. "
    "Ran out of memory in memory space hbm. Used 47.13G of 15.75G hbm. Exceeded hbm "
    "capacity by 31.38G.": (47.13, 15.75),
}


@pytest.mark.parametrize("message", SAID)
def test_what_is_lacking_is_read_from_the_message(message):
    lack = program.no_room(message)
    assert lack is not None
    assert (lack.needed / 2**30, lack.available / 2**30) == SAID[message]


def test_other_errors_are_not_for_lack_of_memory():
    assert program.no_room("INTERNAL: hbm of 3.00G") is None
    assert program.no_room("RESOURCE_EXHAUSTED: in memory space vmem, 17M") is None


MEANT = {
    "v5litepod-8": "v5e:2x4",
    "v5litepod:2x4": "v5e:2x4",
    "v6e-256": "v6e:16x16",
    "v5p-16": "v5p:2x2x2",
    "v4-128": "v4:4x4x4",
    "V5E:4x4": "v5e:4x4",
    "v5p:4x4": "2x4x4",
    "h100": "h100:8",
}


@pytest.mark.parametrize("name", MEANT)
def test_names_that_are_nearly_right_get_the_right_one(name):
    with pytest.raises(InputError, match=MEANT[name]):
        topology.chip_of(name)


def test_good_names_are_understood():
    for name in topology.names():
        assert name.startswith(f"{topology.chip_of(name).name}:")


BAD = [
    (SMALL, "--topology"),
    (f"{SMALL} --topology v5litepod-8", "did you mean v5e:2x4?"),
    (f"{SMALL} --fsdp 3 --topology v5e:2x4", "does not divide the 8 devices"),
    (f"{SMALL} --topology v5e:2x4 --images 3x3", "COUNTxHEIGHTxWIDTHxCHANNELS"),
]


@pytest.mark.parametrize(("words", "said"), BAD)
def test_bad_flags_get_one_line(capsys, words, said):
    assert said in refused(capsys, "compile_check", *words.split())


def test_without_the_compiler_for_cards_one_line_says_which_to_install(
    capsys, monkeypatch
):
    monkeypatch.setattr(topology, "find_spec", lambda name: None)
    said = refused(capsys, "compile_check", *SMALL.split(), "--topology", "h100:8")
    assert f"jax-cuda13-plugin=={jax.__version__} " in said


@pytest.mark.parametrize(
    ("batch", "said"), [(100, "choose 96 or 104"), (5, "choose 8")]
)
def test_a_batch_must_divide_over_the_slice(batch, said):
    slice_ = partial(topology.Slice, "v5e:2x4", CHIPS["v5e"])
    with pytest.raises(InputError, match=said):
        check.check_divides(batch, slice_([None] * 8, parallel.make_mesh(1, 1)))


def test_pmap_is_checked_as_shard_map():
    experiment = presets.vae(dataset="digits", parallel="pmap")
    feed = resident_feed(program.examples_of(experiment.dataset.spec), 64, 0)
    with pytest.raises(InputError, match="shard_map"):
        program.scan(experiment, feed, parallel.make_mesh(1, 1))
