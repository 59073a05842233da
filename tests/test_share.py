"""Shared models: loaded elsewhere without the data, refused when tampered with, and
never run.
"""

import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml
from huggingface_hub import constants
from PIL import Image

import vaejax
from tests.hub import COMMIT, serving
from tests.npz import read_npz
from tests.test_old_runs import RUNS
from tests.test_remote import buckets  # noqa: F401  (a fixture)
from tests.test_scripts import call, refused
from vaejax import InputError, load, presets, train
from vaejax.experiment import variables_of
from vaejax.presets.citations import bibtex
from vaejax.sharing import hub
from vaejax.sharing.manifest import listed_as
from vaejax.sharing.privacy import check_private, public_name, public_record

TINY = {"hidden": (8,), "latents": 2, "epochs": 2, "batch_size": 20, "ema": 0.9}
FILES = ["README.md", "card.json", "config.json", "manifest.json", "params.safetensors"]


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    """A user's folder, called so that its name stands out in what is shared."""
    return tmp_path_factory.mktemp("secret") / "ann_o_nym"


@pytest.fixture(scope="module")
def run(user):
    """A run on the user's own images: averaged parameters, statistics, named classes.

    Its labels are texts that Markdown and YAML would read as markup.
    """
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (90, 6, 5), np.uint8)
    y = np.array(["a|b", "c: [d]"])[rng.integers(0, 2, 90)]
    user.mkdir()
    np.savez(user / "faces.npz", x_train=x, y_train=y)
    experiment = presets.vae(
        dataset=f"npz:{user / 'faces.npz'}", likelihood="gaussian_optimal", **TINY
    )
    train(experiment, user / "run", quiet=True, devices=1)
    return user / "run"


@pytest.fixture(scope="module")
def shared(run):
    """The run, shared with pictures."""
    folder = run.parents[1] / "model"
    call("share", run, "--out", folder, "--license", "apache-2.0")
    return folder


@pytest.fixture
def copy(shared, tmp_path):
    """A copy to tamper with."""
    return Path(shutil.copytree(shared, tmp_path / "copy"))


def seal(folder):
    """Writes a manifest that fits the files, as who forges a folder would."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in manifest["files"]:
        manifest["files"][name] = listed_as(folder / name)._asdict()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def edit_json(path, **changes):
    """Replaces entries of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def parsed_by_hand(path):
    """Metadata and arrays of a safetensors file, by its specification alone."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    return {
        name: np.frombuffer(data[slice(*about["data_offsets"])], "<f4").reshape(
            about["shape"]
        )
        for name, about in header.items()
        if name != "__metadata__"
    }


def written_by_hand(arrays, path):
    """A safetensors file of float32 arrays."""
    header, data = {}, b""
    for name, array in arrays.items():
        start, data = len(data), data + np.asarray(array, "<f4").tobytes()
        span = {"data_offsets": [start, len(data)]}
        header[name] = {"dtype": "F32", "shape": list(np.shape(array)), **span}
    head = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + data)


def same(tree, other):
    return jax.tree.all(jax.tree.map(np.array_equal, tree, other))


def test_a_shared_model_is_the_run(run, shared):
    """To the last bit; its parameters are the averaged ones, and nothing trains it."""
    experiment, state = load(run)
    assert state.ema and not same(state.ema, state.params) and state.stats
    other, loaded = load(shared)
    assert other.model == experiment.model
    assert same(variables_of(loaded), variables_of(state))
    assert int(loaded.step) == int(state.step) == 8
    assert (loaded.opt_state, loaded.ema) == ({}, {})
    assert other.dataset.spec.digest == experiment.dataset.spec.digest
    assert other.dataset.spec.class_names == ("a|b", "c: [d]")


def test_tensors_are_named_by_the_paths_of_parts(run, shared):
    """Read by the specification of safetensors alone, without its library."""
    found = parsed_by_hand(shared / "params.safetensors")
    variables = variables_of(load(run)[1])
    assert len(found) == len(jax.tree.leaves(variables))
    for name, array in found.items():
        value = variables
        for key in name.split("/"):
            value = value[key]
        np.testing.assert_array_equal(array, value)


def test_sharing_again_writes_the_same_bytes(run, shared, tmp_path):
    call("share", run, "--out", tmp_path / "again", "--no-pictures")
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == FILES
    for name in FILES:
        if name not in ("README.md", "manifest.json"):  # those have the pictures
            assert (tmp_path / "again" / name).read_bytes() == (
                shared / name
            ).read_bytes()
    assert "![" not in (tmp_path / "again" / "README.md").read_text()


@pytest.mark.parametrize("name", ["vae", "wgan_gp"])
def test_an_old_run_is_shared_in_todays_form(name, tmp_path):
    """Also what it lacks of a state of today: the mass of a running average."""
    with zipfile.ZipFile(RUNS) as archive:
        archive.extractall(tmp_path)
    call("share", tmp_path / name, "--out", tmp_path / "model", "--no-pictures")
    (old, state), (new, loaded) = load(tmp_path / name), load(tmp_path / "model")
    assert same(variables_of(loaded), variables_of(state))
    assert new.model == old.model
    settings = [{**each.arguments, "dataset": 0} for each in (new, old)]
    assert settings[0] == settings[1]


ELSEWHERE = """
import os, sys
opened = []
sys.addaudithook(lambda event, given: event == "open" and opened.append(str(given[0])))
import jax, numpy as np, vaejax
assert len(jax.devices()) == 2
for at, name in enumerate(sys.argv[1:3]):
    experiment, state = vaejax.load(name)
    key, x = jax.random.key(0), np.load("x.npy", allow_pickle=False)
    given = experiment.inputs(x)
    filled = vaejax.impute(experiment, state, given["x"], np.ones(x.shape)[..., None],
                           key, samples=2)
    found = {
        "sample": vaejax.sample(experiment, state, key, 3),
        "encode": vaejax.encode(experiment, state, given).mean,
        "reconstruct": vaejax.reconstruct(experiment, state, given),
        "log_likelihood": vaejax.log_likelihood(experiment, state, given, key, 5),
        "decode": vaejax.decode(experiment, state, np.zeros((2, 2), np.float32)),
        "impute": filled.single,
        "step": state.step,
    }
    np.savez(f"found-{at}.npz", **found)
print(*opened, sep="\\n")
"""
EVIL = (".pkl", ".pt", ".bin", ".ckpt")


def answers(experiment, state, x):
    """What the program above finds, here."""
    key, given = jax.random.key(0), experiment.inputs(x)
    return {
        "sample": vaejax.sample(experiment, state, key, 3),
        "encode": vaejax.encode(experiment, state, given).mean,
        "reconstruct": vaejax.reconstruct(experiment, state, given),
        "log_likelihood": vaejax.log_likelihood(experiment, state, given, key, 5),
        "decode": vaejax.decode(experiment, state, np.zeros((2, 2), np.float32)),
        "impute": given["x"],  # nothing is missing
        "step": state.step,
    }


def bring_pickles(folder, mark):
    """Puts pickles there that leave a mark when they are read."""
    for end in EVIL:
        (folder / f"model{end}").write_bytes(pickle.dumps(Evil(mark)))


class Evil:
    """Reading its pickle makes a folder."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_another_machine_loads_it_without_the_data(run, copy, tmp_path):
    """From a copy and from a hub, in a process with another home, folder and number of
    devices, which is seen to open no file of the run's owner and no pickle.
    """
    home, mark = tmp_path / "home", tmp_path / "mark"
    home.mkdir()
    bring_pickles(copy, mark)
    x = np.random.default_rng(1).integers(0, 256, (4, 6, 5), np.uint8)
    np.save(home / "x.npy", x)
    environment = {n: v for n, v in os.environ.items() if not n.startswith("HF_")}
    environment |= {"HOME": str(home), "TFDS_DATA_DIR": str(home / "none")}
    environment |= {"JAX_NUM_CPU_DEVICES": "2", "PYTHONPATH": os.getcwd()}
    with serving({"ann/faces": copy}) as (address, asked):
        done = subprocess.run(
            [sys.executable, "-c", ELSEWHERE, copy, "hf://ann/faces"],
            env=environment | {"HF_ENDPOINT": address},
            cwd=home,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    opened = done.stdout.splitlines()
    assert any(name.endswith("config.json") for name in opened)
    assert not any(str(run.parent) in name for name in opened)
    assert not any(
        name.startswith(str(copy)) and name.endswith(EVIL) for name in opened
    )
    assert not mark.exists()
    got = {path.rpartition("/")[2] for path in asked if "/resolve/" in path}
    assert got == {*FILES} - {"README.md"}
    expected = answers(*load(run), x)
    for at in (0, 1):
        found = read_npz(home / f"found-{at}.npz")
        for name, value in expected.items():
            # Other devices add float32 numbers in another order.
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in FILES if n != "manifest.json"])
def test_a_tampered_file_is_refused_by_its_digest(name, copy):
    """A flipped bit, and a file that is cut."""
    content = (copy / name).read_bytes()
    for changed in (
        content[:-2] + bytes([content[-2] ^ 1]) + content[-1:],
        content[:9],
    ):
        (copy / name).write_bytes(changed)
        with pytest.raises(InputError, match=rf"{name} is not what was .* digest"):
            load(copy)


def test_a_tampered_picture_is_refused_and_a_missing_one_is_not(copy):
    path = copy / "pictures" / "samples.png"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(InputError, match=r"samples\.png is not what was shared"):
        load(copy)
    shutil.rmtree(copy / "pictures")
    (copy / "README.md").unlink()
    assert int(load(copy)[1].step) == 8


@pytest.mark.parametrize("name", ["config.json", "params.safetensors", "manifest.json"])
def test_a_folder_without_a_file_is_refused(name, copy):
    (copy / name).unlink()
    with pytest.raises(InputError, match=f"no {name}: get the whole folder again"):
        load(copy)


@pytest.mark.parametrize("sealed", [False, True])
def test_a_pickle_in_the_place_of_the_parameters_is_refused(sealed, copy, tmp_path):
    """By its digest and, where the manifest is forged as well, by its format."""
    mark = tmp_path / "mark"
    (copy / "params.safetensors").write_bytes(pickle.dumps(Evil(mark)))
    if sealed:
        seal(copy)
    said = "not a safetensors file" if sealed else "digest"
    with pytest.raises(InputError, match=said) as refusal:
        load(copy)
    assert "\n" not in str(refusal.value)
    assert not mark.exists()
    pickle.loads((copy / "params.safetensors").read_bytes())
    assert mark.exists(), "the pickle of this test does nothing"


def renamed(arrays):
    first = max(arrays)  # a parameter, not the mass that older runs lack
    return {
        **{n: a for n, a in arrays.items() if n != first},
        "params/evil": arrays[first],
    }


FORGED = {
    "names": (renamed, r"1 missing: .*; 1 unexpected: params/evil"),
    "shapes": (
        lambda arrays: {n: np.zeros((3, *a.shape)) for n, a in arrays.items()},
        r"is float32\[3.* there and float32\[.* in config.json",
    ),
    "nothing": (lambda arrays: {}, r"\d+ missing: .* and \d+ more"),
}


@pytest.mark.parametrize("what", FORGED)
def test_other_tensors_are_refused_by_name(what, copy):
    change, said = FORGED[what]
    path = copy / "params.safetensors"
    written_by_hand(change(parsed_by_hand(path)), path)
    seal(copy)
    with pytest.raises(InputError, match=said):
        load(copy)


def test_another_type_is_refused(copy):
    path = copy / "params.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"I32"'))
    seal(copy)
    with pytest.raises(InputError, match=r"int32\[.* there and float32"):
        load(copy)


def test_nothing_is_allocated_for_a_forged_configuration(copy):
    """Layers of 10^8 numbers each, which this machine could not hold."""
    config = json.loads((copy / "config.json").read_text())
    edit_json(
        copy / "config.json", arguments=config["arguments"] | {"hidden": [10**8] * 3}
    )
    seal(copy)
    with pytest.raises(InputError, match="another model"):
        load(copy)


@pytest.mark.parametrize(
    "content, said",
    [
        ("{", "is not JSON"),
        ("[]", "not that of a shared model"),
        ('{"format": 2}', "shared by a newer vaejax: upgrade"),
        ('{"format": 1, "files": {}}', "must list config.json and params"),
        (
            '{"format": 1, "files": {"config.json": {}, "params.safetensors": {}, '
            '"../x": {}}}',
            "'../x', which is outside of the folder",
        ),
        (
            '{"format": 1, "files": {"config.json": {"bytes": 1, "sha256": 2}, '
            '"params.safetensors": {}}}',
            "is damaged",
        ),
    ],
)
def test_a_damaged_or_newer_manifest_is_refused(content, said, copy):
    (copy / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=said):
        load(copy)


def test_a_newer_configuration_is_refused(copy):
    edit_json(copy / "config.json", format=99)
    seal(copy)
    with pytest.raises(InputError, match="newer vaejax"):
        load(copy)


def test_nothing_tells_who_shared_it(user, shared):
    """No file has a part of a path of the user's, not even inside of a picture."""
    told = [user.name, user.parent.name, str(Path.home())]
    for path in shared.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(name.encode() in content for name in told), path
    config = json.loads((shared / "config.json").read_text())
    assert config["arguments"]["dataset"] == config["data"]["name"] == "npz:faces.npz"


@pytest.mark.parametrize(
    "name, public",
    [
        ("npz:/home/ann/a b/x.npz", "npz:x.npz"),
        ("csv:ann/x.csv", "csv:x.csv"),
        ("csv:gs://anns-bucket/x.csv", "csv:x.csv"),
        ("folder:~/ann/", "folder:ann"),
        ("mnist_5k", "mnist_5k"),
        ("name/config:1.0.0", "name/config:1.0.0"),
        ("hf:owner/name", "hf:owner/name"),
        ("/home/ann/run", "run"),
    ],
)
def test_names_lose_their_folders(name, public):
    assert public_name(name) == public


def test_a_path_inside_a_remark_is_shortened():
    name = "npz:/home/ann/x.npz"
    record = {
        "data": {"name": name, "remarks": [f"x_train of {name!r} is dark"]},
        "arguments": {"dataset": name, "other": "/home/ann/run", "width": 3},
    }
    assert public_record(record, [name]) == {
        "data": {"name": "npz:x.npz", "remarks": ["x_train of 'npz:x.npz' is dark"]},
        "arguments": {"dataset": "npz:x.npz", "other": "run", "width": 3},
    }


def test_a_path_that_is_left_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"names": ["/home/ann/cat"]}')
    with pytest.raises(InputError, match=r"config\.json would tell others .*/home/ann"):
        check_private(tmp_path, Path("/home/ann"))
    check_private(tmp_path, Path("/home/bob"), Path("/"))


def test_the_model_card_says_what_it_is(run, shared):
    """Front matter that YAML reads, the card's numbers, and pictures that are there."""
    _, front, text = (shared / "README.md").read_text().split("---\n", 2)
    about = yaml.safe_load(front)
    assert about["library_name"] == "vaejax"
    assert about["license"] == "apache-2.0"
    assert {"vae", "jax", "image"} <= {*about["tags"]}
    card = json.loads((shared / "card.json").read_text())
    found = card["evaluation"]["values"]["elbo"]
    assert f"| elbo | {found['value']:.1f} | {found['standard_error']:.2g} |" in text
    assert card["data"]["digest"] in text
    assert bibtex("vae") in text
    assert r"classes | 2: a\|b, c: \[d\] |" in text
    assert 'vaejax.load("FOLDER")' in text
    pictures = [
        line[:-1].partition("](")[2] for line in text.splitlines() if line[:2] == "!["
    ]
    assert {"pictures/samples.png", "pictures/curves.png"} <= {*pictures}
    for name in pictures:
        with Image.open(shared / name) as picture:
            assert picture.format == "PNG"


def test_the_model_card_runs(shared, monkeypatch):
    """Its lines of Python, with the folder in its place."""
    text = (shared / "README.md").read_text()
    code = text.partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(shared.parent)
    names = {"x": np.zeros((3, 6, 5), np.uint8)}
    exec(code.replace("FOLDER", shared.name), names)
    assert names["samples"].shape == (16, 6, 5, 1)
    assert names["codes"].mean.shape == (3, 2)


@pytest.mark.slow
def test_programs_take_a_shared_model(shared, tmp_path, capsys):
    """As they take a run; it stays as it is."""
    before = {path: path.stat().st_mtime_ns for path in shared.rglob("*")}
    own, out = tmp_path / "own.npz", tmp_path / "out.npz"
    x = np.random.default_rng(2).integers(0, 256, (6, 6, 5), np.uint8)
    mask = np.ones(x.shape, np.uint8)
    mask[:, 2:4] = 0
    np.savez(own, x=x)
    np.savez(tmp_path / "holes.npz", x=x, mask=mask)
    call("sample", shared, "--num", 3, "--out", out)
    assert read_npz(out)["x"].shape == (3, 6, 5, 1)
    call("encode", shared, "--input", own, "--out", out)
    assert read_npz(out)["mean"].shape == (6, 2)
    call(
        "impute",
        shared,
        "--input",
        tmp_path / "holes.npz",
        "--out",
        out,
        "--samples",
        3,
    )
    assert (read_npz(out)["x"].reshape(x.shape)[mask == 1] == x[mask == 1]).all()
    capsys.readouterr()
    call("evaluate", shared, "--input", own, "--samples", 2)
    assert "stays as it is: give --out FILE" in capsys.readouterr().err
    call("plot", shared, "--what", "samples", "--out", tmp_path / "plots")
    assert (tmp_path / "plots" / "samples.png").exists()
    call("export", shared, "--out", tmp_path / "exported", "--samples", 2)
    assert (tmp_path / "exported" / "encode.jax").exists()
    assert before == {path: path.stat().st_mtime_ns for path in shared.rglob("*")}


REFUSED = [
    ("train vae --dataset digits --workdir MODEL", "no optimizer to go on with"),
    ("train vae --dataset digits --workdir hf://a/b", "where no run is kept"),
    ("study vae --dataset digits --workdir MODEL", "give another --workdir"),
    ("report MODEL", "its README.md is its report"),
    ("report hf://a/b", "hf://a/b is a shared model, not a run"),
    ("plot MODEL", "give --out FOLDER, and no curves"),
    ("plot MODEL --out OUT --what curves", "has no log"),
    ("evaluate MODEL", "comes without its data, npz:faces.npz: bring that here"),
    ("share MODEL --out OUT", "copy its folder instead"),
    ("share RUN --out MODEL", "empty or not there"),
    ("share RUN --out gs://b/c", "a folder of this machine"),
    ("share RUN --out OUT --push a/b", "needs a token of the hub: log in"),
    ("share RUN --out OUT --push a", "hf://a is no model of the hub"),
    ("sample hf://a", "write hf://owner/name or hf://owner/name@revision"),
    ("sample hf://a/b", "cannot get hf://a/b: it is not in the cache"),
]


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """The hub's library without network and token; the folder of its empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return tmp_path / "cache"


@pytest.mark.parametrize("words, said", REFUSED)
def test_a_refusal_is_one_line(words, said, run, shared, tmp_path, capsys, offline):
    places = {"MODEL": shared, "RUN": run, "OUT": tmp_path / "out"}
    name, *rest = (places.get(word, word) for word in words.split())
    assert said in refused(capsys, name, *rest)
    assert not (tmp_path / "out").exists()


def test_a_model_in_the_cache_of_the_hub_needs_no_network(shared, offline):
    """At a branch and at a commit."""
    place = offline / "models--ann--faces"
    shutil.copytree(shared, place / "snapshots" / COMMIT)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    for address in ("hf://ann/faces", f"hf://ann/faces@{COMMIT}"):
        assert same(load(address)[1], load(shared)[1])
    with pytest.raises(InputError, match="hf://ann/faces@v2: it is not in the cache"):
        load("hf://ann/faces@v2")


def test_the_hub_needs_its_library(monkeypatch):
    monkeypatch.setattr(hub.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"huggingface_hub: pip install 'vaejax\[hub\]'"
    ):
        load("hf://ann/faces")


def test_a_shared_model_in_a_bucket_loads(shared, buckets):  # noqa: F811
    shutil.copytree(shared, buckets / "place" / "model")
    assert same(load("gs://place/model")[1], load(shared)[1])
