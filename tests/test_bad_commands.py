"""Numbers and texts that no command line can mean: exit code 2 and one line."""

import inspect
import json
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vaejax
from tests.test_scripts import call, refused, run  # noqa: F401  (a fixture)
from vaejax import InputError, presets
from vaejax.errors import as_text, require, shortened
from vaejax.runtime import memory
from vaejax.runtime.limits import MOST, check_count, check_seed

QUIET = {"deadline": None, "derandomize": True, "database": None}
PRESET = "--dataset digits --hidden 8"
COUNTS = [  # a command line that would run, and its flags of whole numbers
    ("evaluate", "{run}", ["samples", "batch-size", "num", "devices", "heartbeat"]),
    ("sample", "{run}", ["num", "seed"]),
    ("impute", "{run} --input x.npz --out y.npz", ["multiple", "samples", "seed"]),
    ("encode", "{run} --input x.npz --out z.npz", ["batch-size", "seed"]),
    ("export", "{run} --out {run}/model", ["samples"]),
    ("benchmark", "", ["epochs", "hidden", "batch-size", "seeds"]),
    ("study", f"vae {PRESET}", ["seeds", "devices", "importance-samples", "num"]),
    ("train", f"vae {PRESET}", ["devices", "workers", "heartbeat", "epochs", "seed"]),
    ("train", f"iwae {PRESET}", ["samples", "latents", "blocks", "hide-seed"]),
    ("train", f"vaegan {PRESET}", ["critic-moves", "critic-hidden", "layer"]),
]
REALS = [
    ("train", f"vae {PRESET}", ["beta", "warm-up", "learning-rate", "ema", "sigma"]),
    ("train", f"wgan_gp {PRESET}", ["gradient-penalty", "r1", "clip", "beta1"]),
    ("train", f"annealed_vae {PRESET}", ["capacity", "growth", "gamma"]),
    ("study", f"vae {PRESET} --seeds 1", ["beta", "free-bits", "validation"]),
]
CASES = [(*case[:2], flag) for case in COUNTS for flag in case[2]]
REAL_CASES = [(*case[:2], flag) for case in REALS for flag in case[2]]
# The largest that is refused everywhere: seeds may have 32 bits.
BAD_COUNTS = ["-1", "4294967296", "1" + "0" * 20, "9" * 5000, "1.5", "1e3", "inf"]
BAD_TEXTS = ["nan", "x", "[/x]", "[bold", "", " ", "\N{BELL}", "0x10", "ℵ"]
BAD_REALS = ["inf", "-inf", "nan", "1e400", "-1e400", "1e39", "x", "[/x]", ""]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("x.npz", x=np.zeros((2, 8, 8), np.uint8))
    return tmp_path


def check_refused(capsys, run, case, value):  # noqa: F811
    name, words, flag = case
    given = words.format(run=run).split()
    line = refused(capsys, name, *given, f"--{flag}", value)
    assert line.startswith("error: ")
    assert len(line) <= 510


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_counts_out_of_range(case, capsys, run, elsewhere):  # noqa: F811
    for value in (*BAD_COUNTS[:3], "[/x]"):
        check_refused(capsys, run, case, value)
    assert {path.name for path in elsewhere.iterdir()} == {"x.npz"}


@given(
    st.sampled_from(CASES),
    st.one_of(
        st.integers(min_value=2**32).map(str),
        st.integers(max_value=-1).map(str),
        st.sampled_from(BAD_COUNTS + BAD_TEXTS),
        st.text(st.characters(categories=("L", "P", "S")), max_size=8).filter(
            lambda text: not text.startswith("-") and text != "None"  # all devices
        ),
    ),
)
@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    **QUIET,
)
def test_no_count_is_a_traceback(capsys, run, elsewhere, case, value):  # noqa: F811
    check_refused(capsys, run, case, value)


@given(st.sampled_from(REAL_CASES), st.sampled_from(BAD_REALS))
@settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    **QUIET,
)
def test_no_number_is_a_traceback(capsys, run, elsewhere, case, value):  # noqa: F811
    check_refused(capsys, run, case, value)
    assert {path.name for path in elsewhere.iterdir()} == {"x.npz"}


OTHERS = [
    ("train vae --distributed --coordinator nonsense --hosts 1 --host 0", "ADDRESS"),
    ("train vae --coordinator 1.2.3.4:5", "need --distributed"),
    ("train vae --profile 1:" + "9" * 5000, "--profile"),
    ("train [/x]", "no preset"),
    ("train vae --dataset [/x]", "no data set name"),
    ("train vae --dataset npz:q[/x].npz", "there is no file"),
    ("train vae --workdir s3://bucket/run", "s3://bucket/run"),
    ("train vae --hidden 1000000000 1000000", " PiB of memory"),
    ("study vae --seeds 2000000000", "2,000,000,000 runs of"),
    ("study vae --importance-samples -1", "--importance-samples is -1"),
    ("study vae --classifier {run}", "train a classifier"),
    ("study vae --workdir {run}", "holds a run"),
    ("sample {run} --num 2000000000 --out x.npz", "953.7 GiB of memory"),
    ("sample {run} --num 300000 --out x.png", "pixels"),
    ("impute {run} --input x.npz --out y.npz --multiple 2000000000", "TiB"),
    ("evaluate {run} --classifier {run}", "train a classifier"),
    ("evaluate [/x]", "is not a run"),
    ("evaluate {run} --split [/x]", "no split"),
    ("plot {run} --what [/x]", "[/x]"),
    ("report [/x]", "[/x]"),
    ("completion [/x]", "[/x]"),
    ("compile_check vae --topology v5e:" + "9" * 5000, "--topology"),
    ("compile_check vae --topology v5e:8 --images 9x0x1x1", "--images"),
]


@pytest.mark.parametrize(("words", "said"), OTHERS, ids=[w[:60] for w, _ in OTHERS])
def test_what_cannot_be_meant(words, said, capsys, run, elsewhere):  # noqa: F811
    name, *given = words.format(run=run).split()
    if name in ("train", "study") and "--dataset" not in given:
        given += ["--dataset", "digits"]
    if name in ("train", "study") and "--hidden" not in given:
        given += ["--hidden", "8"]
    assert said in refused(capsys, name, *given)
    assert {path.name for path in elsewhere.iterdir()} == {"x.npz"}


FOLDERS = ["plot {run}", "export {run}", "share {run}", "encode {run} --data digits"]


@pytest.mark.parametrize("words", [*FOLDERS, "reproduce pca"])
@pytest.mark.parametrize("out", ["pictures.png", "x.npz", "numbers.JSON"])
def test_a_folder_is_no_file(words, out, capsys, run, elsewhere):  # noqa: F811
    name, *given = words.format(run=run).split()
    said = refused(capsys, name, *given, "--out", out)
    assert said == f"error: --out {out}: give a folder, and not a file"
    assert {path.name for path in elsewhere.iterdir()} == {"x.npz"}


def wrong(annotation):
    """Values that no setting of this type can have."""
    return {
        int: [1.5, "3", None, 2**33, -(10**20), True, np.nan],
        float: [np.inf, np.nan, 1e39, "3", None, np.float64(-np.inf), True],
        bool: [1, "yes", None],
    }.get(annotation, [object(), "[/x]", 3, ("[/x]", 3)])


@pytest.mark.parametrize("name", presets.PRESETS)
def test_settings_of_presets_are_checked_by_type(name):
    make = presets.PRESETS[name]
    parameters = inspect.signature(make).parameters
    for setting, parameter in parameters.items():
        for value in wrong(parameter.annotation):
            if setting in ("counts", "categories") and value == ("[/x]", 3):
                continue
            with pytest.raises(InputError):
                make(**{"dataset": "digits", setting: value})


@given(st.one_of(st.integers(), st.floats(), st.text(), st.none(), st.booleans()))
@settings(max_examples=200, **QUIET)
def test_counts_and_seeds_are_whole_numbers_in_range(value):
    whole = isinstance(value, int) and not isinstance(value, bool)
    for check, least, most in ((check_count, 0, MOST), (check_seed, 0, 2**32 - 1)):
        if whole and least <= value <= most:
            check("n", value)
        else:
            with pytest.raises(InputError, match=r"^--n is .*: it must be"):
                check("n", value)


@given(st.text(), st.integers(20, 500))
@settings(max_examples=100, **QUIET)
def test_a_shortened_line_keeps_its_ends(text, most):
    line = shortened(text, most)
    assert len(line) <= most
    assert "\n" not in line
    plain = " ".join(text.split())
    if len(plain) <= most:
        assert line == plain
    else:
        assert line[:5] == plain[:5]
        assert line[-5:] == plain[-5:]


def test_numbers_of_any_length_are_shown():
    assert as_text(10**5000) == "a number of thousands of digits"
    with pytest.raises(InputError, match=r"--n is 10{56}\.\.\.: it must be small"):
        require(False, "n", 10**100, "small")


@pytest.mark.parametrize("number", [-1, 2**31, 10**30])
def test_functions_check_their_numbers(run, number):  # noqa: F811
    import jax

    experiment, state = vaejax.load(run)
    key, x = jax.random.key(0), jnp.zeros((2, 8, 8, 1))
    calls = [
        lambda: vaejax.evaluate(experiment, state, samples=number),
        lambda: vaejax.evaluate(experiment, state, batch_size=number),
        lambda: vaejax.sample(experiment, state, key, number),
        lambda: vaejax.log_likelihood(experiment, state, x, key, samples=number),
        lambda: vaejax.impute(experiment, state, x, x == x, key, samples=number),
        lambda: vaejax.impute(experiment, state, x, x == x, key, multiple=number),
    ]
    for each in calls:
        with pytest.raises(InputError, match=r"it must be|of memory"):
            each()


def test_batches_are_no_larger_than_the_split(run):  # noqa: F811
    experiment, state = vaejax.load(run)
    whole = vaejax.evaluate(experiment, state, samples=0, batch_size=359)
    assert vaejax.evaluate(experiment, state, samples=0, batch_size=MOST) == whole


def test_an_npz_that_declares_terabytes_is_refused_by_its_header(tmp_path, capsys):
    """The header says 2^40 numbers; the file holds none of them."""
    path = tmp_path / "bomb.npz"
    head = {"descr": "<f8", "fortran_order": False, "shape": (2**38, 4)}
    with zipfile.ZipFile(path, "w") as file, file.open("x_train.npy", "w") as member:
        np.lib.format.write_array_header_2_0(member, head)
    assert path.stat().st_size < 1000
    line = refused(capsys, "train", "vae", "--dataset", f"npz:{path}")
    assert "would take 8.0 TiB of memory" in line


def test_many_samples_are_drawn_in_chunks(run):  # noqa: F811
    import jax

    from vaejax.cli.examples import draw_samples

    experiment, state = vaejax.load(run)
    key = jax.random.key(3)
    parts = draw_samples(experiment, state, key, 25, False, {}, chunk=10)
    assert parts.shape == (25, 8, 8, 1)
    first = vaejax.sample(experiment, state, key, 10)
    np.testing.assert_array_equal(parts[:10], first)
    assert len(np.unique(parts.reshape(25, -1), axis=0)) == 25


def test_sizes_are_said_as_people_write_them():
    assert memory.size(0) == "0 bytes"
    assert memory.size(1536) == "1.5 KiB"
    assert memory.size(15 * 2**40) == "15.0 TiB"
    assert memory.size(2**90) == "1,073,741,824.0 EiB"
    assert memory.available() > 2**20


def test_want_of_memory_is_one_line(capsys, run, monkeypatch):  # noqa: F811
    def lacking(*arguments, **named):
        np.zeros(2**50)

    monkeypatch.setattr("vaejax.cli.measuring.measure_split", lacking)
    assert "out of memory: Unable to allocate" in refused(capsys, "evaluate", run)


def test_markup_in_names_is_text(capsys, run, tmp_path):  # noqa: F811
    from vaejax.cli.tables import print_table

    print_table("vae on npz:q[/x].npz :bug:", {"elbo": -1.0}, {})
    assert "npz:q[/x].npz :bug:" in capsys.readouterr().out


def test_a_damaged_note_of_tfds_is_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    note = tmp_path / "cifar10" / ".config" / "metadata.json"
    note.parent.mkdir(parents=True)
    for text in ("{", "[]", "{}", json.dumps({"default_config_name": 3})):
        note.write_text(text)
        line = refused(capsys, "train", "vae", "--dataset", "cifar10")
        assert str(note) in line
