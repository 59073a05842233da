"""Exported models, run by JAX alone, against the models they were exported from."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vaejax
from tests.latents import DATA
from tests.npz import read_npz
from tests.test_scripts import call, refused
from vaejax import InputError, parallel, presets
from vaejax.apply import query
from vaejax.export.load import load
from vaejax.export.write import PLATFORMS, exports, write_export
from vaejax.presets.signature import tiny_settings
from vaejax.training.loop import first_state

SAMPLES = 7


# Every import but those of JAX and what it needs is an error here.
RUNNER = """
import sys
for name in ("vaejax", "flax", "numpyro", "optax", "orbax"):
    sys.modules[name] = None
import jax, numpy as np
from load import load
model = load(sys.argv[1])
with np.load(sys.argv[2]) as file:
    given = dict(file)
found = {}
for case in sorted({name.split(".")[0] for name in given}):
    function = model[case.split("@")[0]]
    mine = [name for name in given if name.startswith(case + ".")]
    values = {name.split(".")[1]: given[name] for name in mine}
    result = function(**values)
    result = result if isinstance(result, dict) else {"value": result}
    found |= {f"{case}.{name}": np.asarray(a) for name, a in result.items()}
np.savez(sys.argv[3], **found)
"""
DIGITS = {"dataset": "digits", "hidden": (16,)}
MODELS = {
    "vae": {**DIGITS, "ema": 0.9},
    "cvae": DIGITS,
    "vaegan": DIGITS,
    "cvae_sohn": DIGITS,
    "miwae": {"dataset": "breast_cancer", "hidden": (16,), "hide": "mcar"},
    "gan": DIGITS,
}


def moved_state(experiment):
    """A state in which no number is what it is at the beginning."""
    state = first_state(experiment, parallel.make_mesh(1, 1))
    state = jax.tree.map(lambda a: a + 0.1 if a.dtype == jnp.float32 else a, state)
    return state._replace(step=state.step + 3)


def inputs_of(experiment, rows):
    """Arguments by name, and what the queries are given: x is 0 in holes."""
    rng = np.random.default_rng(rows)
    shape = (rows, *experiment.dataset.spec.shape)
    bit = lambda: (rng.random(shape) < 0.5).astype(np.float32)
    x, seen, mask = bit(), bit(), bit()
    values = {"x": x, "z": rng.normal(size=(rows, 3)).astype(np.float32)}
    values |= {"seen": seen, "context": x * seen, "mask": mask}
    classes = experiment.dataset.spec.classes
    values |= {"y": np.arange(rows, dtype=np.int32) % classes}
    return values | {"key": np.array([3, rows], np.uint32)}


def expected(experiment, state, name, values):
    """By vaejax."""
    given = {n: values[n] for n in ("y", "context", "seen", "mask") if n in values}
    if name == "decode":
        return {"value": vaejax.decode(experiment, state, values["z"], given)}
    if name == "encode":
        x = values["x"] * values.get("mask", 1)
        q = vaejax.encode(experiment, state, x, given)
        return {"mean": q.mean, "scale": np.sqrt(q.variance)}
    key = jax.random.wrap_key_data(values["key"])
    if name == "sample":
        count = len(values.get("y", values.get("context")))
        return {"value": vaejax.sample(experiment, state, key, count, given=given)}
    x = values["x"] * values.get("mask", 1)
    log_px = vaejax.log_likelihood(experiment, state, x, key, SAMPLES, given)
    return {"value": log_px}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_jax_alone_computes_the_same(name, tmp_path):
    experiment = presets.PRESETS[name](**MODELS[name], latents=3)
    state, out = moved_state(experiment), tmp_path / "model"
    write_export(experiment, state, out, SAMPLES)
    given, wanted = {}, {}
    for function, exported in load(out).items():
        names = [each["name"] for each in exported.arguments]
        for rows in (2, 5):
            values = {n: inputs_of(experiment, rows)[n] for n in names}
            case = f"{function}@{rows}"
            given |= {f"{case}.{n}": a for n, a in values.items()}
            answer = expected(experiment, state, function, values)
            wanted |= {f"{case}.{n}": np.asarray(a) for n, a in answer.items()}
    np.savez(tmp_path / "given.npz", **given)
    files = [str(tmp_path / f"{file}.npz") for file in ("given", "found")]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUNNER, str(out), *files],
        capture_output=True,
        text=True,
        cwd=out,
    )
    assert done.returncode == 0, done.stderr
    found = read_npz(tmp_path / "found.npz")
    assert set(found) == set(wanted)
    for case, value in wanted.items():
        assert found[case].shape == value.shape
        np.testing.assert_allclose(
            found[case], value, rtol=1e-5, atol=1e-6, err_msg=case
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_preset_is_exported_for_any_batch_and_platform(name):
    table = name in ("pca", "miwae", "not_miwae", "partial_vae")
    data = "breast_cancer" if table else "digits"
    make = presets.PRESETS[name]
    # Few and small images have fewer to hold out, and begin at another side.
    needed = ("validation", "encoder_blocks", "decoder_blocks", "widths")
    needed += ("critic_layers", "critic_start")
    fitting = {n: v for n, v in tiny_settings(make).items() if n in needed}
    data = DATA[name]() if name in DATA else data
    experiment = make(dataset=data, batch_size=100, **fitting)
    state = parallel.abstract_state(experiment)
    if name == "classifier":
        with pytest.raises(InputError, match="neither encodes nor generates"):
            exports(experiment, state, 2)
        return
    programs = exports(experiment, state, 2)
    lacking = with_none(name) | without_density(name)
    names = {"decode", "sample", "encode", "log_likelihood"} - lacking
    assert set(programs) == names
    for program, _ in programs.values():
        assert program.platforms == PLATFORMS
        assert all(not isinstance(a.shape[0], int) for a in program.out_avals)


def with_none(name):
    """A model without encoder has no posterior, and one of codes no latents."""
    generators = ("gan", "gan_conv", "wgan_gp", "latent_flow")
    if name in DATA:
        return {"encode", "decode"}
    return {"encode", "log_likelihood"} if name in generators else set()


def without_density(name):
    """A point mass, of z given x or of x given z, makes no log p(x)."""
    points = ("autoencoder", "aae", "ali", "cvaegan", "rae", "wae")
    has_none = name in points or name.startswith("vaegan")
    return {"log_likelihood"} if has_none else set()


LIKELIHOODS = ("continuous_bernoulli", "gaussian_optimal", "logistic_mixture")


@pytest.mark.parametrize("likelihood", [*LIKELIHOODS, "categorical", "student_t"])
def test_every_likelihood_is_exported(likelihood):
    experiment = presets.vae(**DIGITS, likelihood=likelihood, binarize="none")
    assert len(exports(experiment, parallel.abstract_state(experiment), 2)) == 4


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The folder that the script writes of a run, and the run."""
    folder = tmp_path_factory.mktemp("export")
    experiment = presets.vae(**DIGITS, latents=2, epochs=1)
    vaejax.train(experiment, folder / "run", quiet=True, devices=1)
    out = folder / "deep" / "model"
    call("export", folder / "run", "--out", out, "--samples", SAMPLES)
    return folder / "run", out


def test_the_script_exports_a_run(exported):
    run, out = exported
    experiment, state = vaejax.load(run)
    key = jax.random.key(5)
    mine = load(out)["sample"](key, np.zeros(4))  # a typed key, and labels as floats
    np.testing.assert_allclose(
        mine, query.sample(experiment, state, key, 4), rtol=1e-5, atol=1e-6
    )


def test_the_manifest_says_how_to_call(exported):
    found = json.loads((exported[1] / "export.json").read_text())
    assert found["platforms"] == ["cpu", "cuda", "tpu"]
    assert found["versions"]["jax"] == jax.__version__
    assert found["units"]["x"].startswith("in [0, 1]")
    (x,) = found["functions"]["encode"]["arguments"]
    assert (x["name"], x["shape"], x["dtype"]) == ("x", ["n", 8, 8, 1], "float32")
    assert "nats" in found["functions"]["log_likelihood"]["says"]
    assert (found["columns"], found["classes"]) == ([], [*map(str, range(10))])


@pytest.mark.parametrize("name", ["encode.jax", "parameters.npz"])
def test_a_damaged_file_is_not_run(exported, tmp_path, name):
    copied = tmp_path / "model"
    copied.mkdir()
    for path in exported[1].iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        load(copied)
    (copied / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        load(copied)


def test_wrong_arguments_are_named(exported):
    with pytest.raises(TypeError, match="the arguments are key, y"):
        load(exported[1])["sample"](np.zeros(2, np.uint32))


def test_a_folder_with_something_in_it_stays(capsys, exported):
    run, out = exported
    said = refused(capsys, "export", run, "--out", out)
    assert "give a folder that is empty" in said
    assert "samples is 0" in refused(capsys, "export", run, "--out", out, "--samples=0")
