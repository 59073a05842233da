"""Studies: every replica is the run that it would be alone."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from functools import partial

import jax
import numpy as np
import pytest

from tests.test_scripts import call, refused
from vaejax import InputError, load, parallel, presets, study, train
from vaejax.runtime.preemption import Stopped
from vaejax.sweeps.summary import StudyRow, summarize
from vaejax.sweeps.sweep import traceable

TINY = {
    "dataset": "digits",
    "hidden": (16,),
    "latents": 3,
    "batch_size": 96,
    "epochs": 2,
    "evaluate_every": 1,
    "checkpoint_every": 1,
}
# float32 sums in another order differ by 1e-7 of their size; Adam divides gradients by
# their own size, so an entry whose gradient is nearly nothing may differ by a share of
# a step. Wrong keys, data or settings differ by whole steps of 1e-3.
CLOSE = {"rtol": 1e-3, "atol": 1e-4}


def params_of(folder):
    return load(folder)[1].params


def assert_close(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), one, other)


def run(make, folder, vary=None, **settings):
    settings = {"seeds": 2, "devices": 1, **settings}
    return study(make, folder, vary, quiet=True, **settings)


def rows_of(folder):
    return (folder / "metrics.jsonl").read_text().splitlines()


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """beta 1 and 4 from two seeds each."""
    folder = tmp_path_factory.mktemp("study")
    return run(presets.vae, folder, {"beta": (1, 4)}, **TINY)


def test_replicas_are_all_combinations(four):
    assert [replica.folder.name for replica in four] == [
        *("beta=1,seed=0", "beta=1,seed=1", "beta=4,seed=0", "beta=4,seed=1")
    ]
    assert all(replica.ended and not replica.diverged for replica in four)
    first, *others = (params_of(replica.folder) for replica in four)
    for other in others:
        with pytest.raises(AssertionError):
            assert_close(first, other)


@pytest.mark.parametrize("number", [1, 2])
def test_a_replica_equals_its_single_run(four, number, tmp_path):
    replica = four[number]
    alone = train(
        presets.vae(**TINY, **replica.changes), tmp_path, quiet=True, devices=1
    )
    assert_close(params_of(replica.folder), alone.params)
    rows = [list(map(json.loads, rows_of(f))) for f in (replica.folder, tmp_path)]
    assert len(rows[0]) == len(rows[1]) == 4
    for one, other in zip(*rows, strict=True):
        assert one.keys() == other.keys()
        assert one["step"] == other["step"]
        name = "elbo" if one["split"] == "test" else "vae/elbo"
        assert one[name] == pytest.approx(other[name], rel=1e-4)


def test_a_replica_is_a_run_like_any_other(four, tmp_path):
    """The workdir of a replica is that of `train`: which has nothing left to do."""
    folder = shutil.copytree(four[0].folder, tmp_path / "run")
    before = (folder / "metrics.jsonl").read_bytes()
    train(presets.vae(**TINY, beta=1.0, seed=0), folder, quiet=True, devices=1)
    assert (folder / "metrics.jsonl").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "settings"),
    [
        ("wgan_gp", {"epochs": 1}),
        ("vae_conv", {"epochs": 1, "batch_size": 500, "channels": (4,)}),
        ("cvae", {"epochs": 1}),
        ("beta_tcvae", {"epochs": 1, "estimator": "stratified"}),
    ],
)
def test_games_and_convolutions_equal_their_single_runs(preset, settings, tmp_path):
    make, settings = presets.PRESETS[preset], {**TINY, **settings}
    replica = run(make, tmp_path / "study", **settings)[1]
    alone = train(make(**settings, seed=1), quiet=True, devices=1)
    assert_close(params_of(replica.folder), alone.params)


def test_numbers_vary_inside_one_program(monkeypatch, tmp_path):
    """What decides nothing in Python is traced; what shapes the program splits it."""
    programs = []
    compile_study = parallel.compile_study

    def counting(*arguments):
        programs.append(arguments)
        return compile_study(*arguments)

    monkeypatch.setattr(parallel, "compile_study", counting)
    vary = {"beta": (1, 2), "learning_rate": (1e-3, 2e-3), "latents": (2, 3)}
    settings = {n: v for n, v in TINY.items() if n != "latents"} | {"epochs": 1}
    replicas = run(presets.vae, tmp_path, vary, **settings, seeds=1)
    assert len(replicas) == 8
    assert len(programs) == 2


def changed(make, now, changes):
    return make(**now | changes)


def test_weights_of_disentangling_are_traced():
    """So that a study of them is one program."""
    weights = {
        "beta_tcvae": ("alpha", "beta", "gamma"),
        "dip_vae": ("off_diagonal", "diagonal_factor"),
        "factor_vae": ("gamma",),
    }
    for name, settings in weights.items():
        make = partial(presets.PRESETS[name], **TINY)
        vary = dict.fromkeys(settings, (1.0, 2.0))
        assert traceable(partial(changed, make), make(), vary) == list(settings)


def test_settings_that_python_looks_at_are_not_traced():
    def build(now, changes):
        return presets.vae(**TINY | now | changes)

    vary = dict.fromkeys(("beta", "clip", "ema", "free_bits", "sigma"), (0.1, 0.5))
    assert traceable(build, presets.vae(**TINY), vary) == ["beta", "free_bits"] + (
        ["sigma"]
    )


def test_a_killed_study_goes_on_bit_for_bit(four, tmp_path):
    """As a kill leaves it: some checkpoints, and rows that are ahead of them."""
    whole = four[0].folder.parent
    copy = shutil.copytree(whole, tmp_path / "copy")
    for replica in four:
        shutil.rmtree(copy / replica.folder.name / "checkpoints" / "28")
    for replica in run(presets.vae, copy, {"beta": (1, 4)}, **TINY):
        undisturbed = whole / replica.folder.name
        again, once = load(replica.folder)[1], load(undisturbed)[1]
        assert int(again.step) == int(once.step) == 28
        jax.tree.map(np.testing.assert_array_equal, again, once)
        assert rows_of(replica.folder) == rows_of(undisturbed)


@pytest.mark.slow
def test_replicas_at_unlike_steps_go_on_bit_for_bit(four, tmp_path):
    """A kill between the checkpoints of replicas: one has ended, one lost an interval,
    one had saved nothing yet, and one had diverged. Programs keep their size.
    """
    whole = four[0].folder.parent
    copy = shutil.copytree(whole, tmp_path / "copy")
    names = [replica.folder.name for replica in four]
    shutil.rmtree(copy / names[1] / "checkpoints" / "28")
    shutil.rmtree(copy / names[2] / "checkpoints")
    (copy / names[3] / "diverged.json").write_text('{"message": "made up"}')
    run(presets.vae, copy, {"beta": (1, 4)}, **TINY)
    for name in names[:3]:
        again, once = load(copy / name)[1], load(whole / name)[1]
        assert int(again.step) == int(once.step) == 28
        jax.tree.map(np.testing.assert_array_equal, again, once)
        assert rows_of(copy / name) == rows_of(whole / name)


def test_a_study_keeps_out_of_the_folder_of_a_run(four):
    before = {*four[0].folder.iterdir()}
    with pytest.raises(InputError, match="holds a run"):
        run(presets.vae, four[0].folder, {"beta": (1, 4)}, **TINY)
    assert {*four[0].folder.iterdir()} == before


def test_a_study_too_large_for_the_memory_is_refused_at_once(tmp_path):
    with pytest.raises(InputError, match=r"runs of .* parameters .* TiB"):
        run(presets.vae, tmp_path / "a", **TINY, seeds=10**9)
    with pytest.raises(InputError, match="--seed is 4294967296"):
        run(presets.vae, tmp_path / "a", **TINY, seed=2**32 - 2, seeds=3)
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
def test_more_seeds_later(four, tmp_path, monkeypatch):
    """Finished replicas stay as they are; only what is new is trained."""
    copy = shutil.copytree(four[0].folder.parent, tmp_path / "copy")
    sizes = []
    spread = parallel.shard_replicas

    def counting(trees, mesh):
        sizes.append(len(trees))
        return spread(trees, mesh)

    monkeypatch.setattr(parallel, "shard_replicas", counting)
    replicas = run(presets.vae, copy, {"beta": (1, 4)}, seeds=3, **TINY)
    assert [replica.seed for replica in replicas] == [0, 1, 2, 0, 1, 2]
    assert set(sizes) == {2}


@pytest.mark.slow
def test_a_signal_saves_every_replica(tmp_path, monkeypatch):
    from vaejax.runtime import preemption

    class Sent(preemption.Interrupts):
        def __enter__(self):
            super().__enter__()
            signal.raise_signal(signal.SIGTERM)
            return self

    with monkeypatch.context() as patch:
        patch.setattr("vaejax.sweeps.sweep.Interrupts", Sent)
        with pytest.raises(Stopped, match="at step 14, 2 replicas saved"):
            run(presets.vae, tmp_path / "a", **TINY)
    steps = {load(f)[1].step.item() for f in (tmp_path / "a").glob("seed=*")}
    assert steps == {14}
    stopped = run(presets.vae, tmp_path / "a", **TINY)
    whole = run(presets.vae, tmp_path / "b", **TINY)
    for one, other in zip(stopped, whole, strict=True):
        jax.tree.map(
            np.testing.assert_array_equal, load(one.folder)[1], load(other.folder)[1]
        )


def test_a_replica_that_diverges_leaves_the_others_alone(tmp_path):
    vary = {"learning_rate": (1e-3, 1e30)}
    replicas = run(presets.vae, tmp_path, vary, **TINY, seeds=1)
    good, bad = replicas
    assert "vae/" in bad.diverged or "parameter" in bad.diverged
    assert good.ended and not good.diverged
    alone = train(presets.vae(**TINY, learning_rate=1e-3), quiet=True, devices=1)
    assert_close(params_of(good.folder), alone.params)
    again = run(presets.vae, tmp_path, vary, **TINY, seeds=1)[1]
    assert again.diverged == bad.diverged


@pytest.mark.slow
def test_patience_ends_replicas_on_their_own(tmp_path):
    settings = {**TINY, "epochs": 8, "validation": 0.2, "patience": 1}
    settings |= {"learning_rate": 0.3, "decay": "constant", "activation": "relu"}
    for replica in run(presets.vae, tmp_path, **settings):
        alone = tmp_path / f"alone{replica.seed}"
        experiment = presets.vae(**settings, seed=replica.seed)
        train(experiment, alone, quiet=True, devices=1)
        steps = [load(folder)[1].step.item() for folder in (replica.folder, alone)]
        assert steps[0] == steps[1]
        assert steps[0] < experiment.steps


@pytest.mark.devices
def test_replicas_are_split_over_devices(four, tmp_path):
    assert parallel.study_mesh(4, 6).size == 3
    more = {"seeds": 4, "devices": 8}
    spread = run(presets.vae, tmp_path, {"beta": (1, 4)}, **TINY, **more)
    assert len(spread) == 8
    for replica in four:
        one = params_of(tmp_path / replica.folder.name)
        assert_close(one, params_of(replica.folder))


def test_mean_and_deviation_over_seeds(four):
    values = [{"elbo": -1.0}, {"elbo": -3.0}, {"elbo": 2.0}, None]
    assert summarize(four, values) == [
        StudyRow({"beta": 1.0}, 2, 0, {"elbo": -2.0}, {"elbo": pytest.approx(2**0.5)}),
        StudyRow({"beta": 4.0}, 2, 1, {"elbo": 2.0}, {}),
    ]


def test_what_cannot_vary_is_refused(tmp_path):
    for vary, words in (
        ({"seed": (1, 2)}, "--seeds"),
        ({"beta": (1, 1.0)}, "each value once"),
        ({"beta": ()}, "each value once"),
        ({"betta": (1, 2)}, "did you mean beta"),
        ({"beta": (1, -1)}, "at least 0"),
    ):
        with pytest.raises(InputError, match=words):
            run(presets.vae, tmp_path, vary, **TINY)
    assert not list(tmp_path.iterdir())


WORDS = shlex.split("""
    --dataset digits --hidden 16 --latents 3 --batch-size 96 --epochs 1
""")


@pytest.mark.slow
def test_the_script_writes_a_table(tmp_path, capsys):
    folder = tmp_path / "study"
    flags = ["--seeds", 2, "--devices", 1, "--workdir", folder]
    call("study", "vae", "--beta", 1, 4, *flags, *WORDS)
    head, _, *lines = (folder / "table.md").read_text().splitlines()
    assert head.split()[1::2][:3] == ["beta", "seeds", "active_units"]
    assert len(lines) == 2
    assert "±" in lines[0]
    rows = json.loads((folder / "table.json").read_text())
    files = [folder / f"beta=4,seed={seed}" / "evaluation.json" for seed in (0, 1)]
    elbos = [json.loads(file.read_text())["elbo"] for file in files]
    assert rows[1]["mean"]["elbo"] == pytest.approx(np.mean(elbos))
    assert rows[1]["deviation"]["elbo"] == pytest.approx(np.std(elbos, ddof=1))
    assert lines[0] in capsys.readouterr().out


@pytest.mark.slow
def test_the_script_refuses_another_study_in_the_folder(tmp_path, capsys, monkeypatch):
    flags = ["--seeds", 1, "--devices", 1, "--workdir", tmp_path]
    lacking = "vaejax.training.trackers.no_tensorboard"
    monkeypatch.setattr(lacking, lambda folder: "no files")
    call("study", "vae", *flags, *WORDS)
    assert capsys.readouterr().err.splitlines()[1] == "no files"
    line = refused(capsys, "study", "vae", "--free-bits", 1, *flags, *WORDS)
    assert "holds another configuration" in line


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux counts cores")
def test_every_core_is_a_device_for_replicas():
    code = """if True:
        import os, jax
        from vaejax import parallel
        parallel.device_per_core()
        assert len(jax.devices()) == len(os.sched_getaffinity(0))
        parallel.device_per_core()  # too late to change, and no error
    """
    environment = {n: v for n, v in os.environ.items() if n != "JAX_NUM_CPU_DEVICES"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
