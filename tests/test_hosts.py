"""Two processes on this machine as two hosts, each with two devices."""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import vaejax
from tests.npz import read_npz

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parent.parent / "scripts"
SETTINGS = shlex.split(
    "vae --dataset digits --hidden 16 --latents 3 --batch-size 12 --log-every 20 "
    "--evaluate-every 1 --checkpoint-every 40 --learning-rate 1e-4"
)


def start(arguments, devices, script="train"):
    """A process of a script, the training one by default, with simulated devices."""
    # More threads than cores: simulated devices that wait for each other in a
    # collective, of a step and of the one before, would else hold all there are.
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "NPROC": "16"}
    settings = SETTINGS if script == "train" else []
    return subprocess.Popen(
        [sys.executable, str(SCRIPTS / f"{script}.py"), *settings, *arguments],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def hosts(arguments, more=((), ()), script="train"):
    """Two hosts that meet on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    meet = ("--distributed", "--coordinator", address, "--hosts", "2", "--host")
    return [
        start([*arguments, *meet, str(host), *more[host]], 2, script)
        for host in range(2)
    ]


def ended(processes, seconds=240):
    """Exit codes and what was said; no process and no pipe outlives this."""
    try:
        said = [process.communicate(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return [process.returncode for process in processes], said


def rows(workdir):
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def wait_for(condition, processes, seconds=240):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes)
        time.sleep(0.02)


def assert_same_run(workdir, other):
    """The same rows and parameters, but for the order of sums."""
    mine, theirs = rows(workdir), rows(other)
    assert [(r["step"], r["split"]) for r in mine] == [
        (r["step"], r["split"]) for r in theirs
    ]
    for a, b in zip(mine, theirs, strict=True):
        for name in set(a) - {"step", "split", "active_units"}:
            assert a[name] == pytest.approx(b[name], rel=1e-4, abs=1e-4), name
    params = [vaejax.load(each)[1].params for each in (workdir, other)]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), *params
    )


def stop_one(workdir, *more):
    """Two hosts that train until one is told to stop; and what both said."""
    processes = hosts(["--epochs", "8", "--workdir", str(workdir), *more])
    try:
        wait_for(lambda: len(rows(workdir)) > 1, processes)
        processes[1].send_signal(signal.SIGTERM)
    finally:
        result = ended(processes)
    return workdir, *result


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    return stop_one(tmp_path_factory.mktemp("hosts") / "run")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The same run by one process with one device, not interrupted."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    codes, said = ended([start(["--epochs", "8", "--workdir", str(workdir)], 1)])
    assert codes == [0], said
    return workdir


def test_a_signal_to_one_host_stops_all_at_one_step(stopped):
    workdir, codes, said = stopped
    assert codes == [128 + signal.SIGTERM] * 2, said
    lines = [error.splitlines()[-1] for _, error in said]
    assert lines[0] == lines[1]
    last = rows(workdir)[-1]["step"]
    assert f"at step {last}, saved" in lines[0]
    assert [p.name for p in (workdir / "checkpoints").iterdir()].count(str(last)) == 1


@pytest.mark.parametrize("devices", [1, 3])
def test_another_number_of_devices_goes_on(devices, stopped, whole, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(stopped[0], workdir)
    codes, said = ended([start(["--epochs", "8", "--workdir", str(workdir)], devices)])
    assert codes == [0], said
    assert "resuming at step" in said[0][1]
    assert_same_run(workdir, whole)


def test_a_state_in_parts_over_hosts_goes_on_where_one_has_all(tmp_path):
    """Of two hosts each holds half of a state; then one host with as many devices."""
    parts = ("--fsdp", "4", "--hidden", "64")  # 64 pixels x 64: large enough to part
    workdir, codes, said = stop_one(tmp_path / "run", *parts)
    assert codes == [128 + signal.SIGTERM] * 2, said
    for folder in (workdir, tmp_path / "whole"):
        words = ["--epochs", "8", "--workdir", str(folder), *parts]
        codes, said = ended([start(words, 4)])
        assert codes == [0], said
        assert ("resuming at step" in said[0][1]) == (folder == workdir)
    assert_same_run(workdir, tmp_path / "whole")


def test_evaluation_by_two_hosts_is_that_of_one(whole, tmp_path):
    found = []
    for number, run in enumerate((start, hosts)):
        workdir = tmp_path / str(number)
        shutil.copytree(whole, workdir)
        words = [str(workdir), "--samples", "20", "--batch-size", "12"]
        words += ["--per-example", str(workdir / "each.npz")]
        if run is start:
            processes = [start(words, 1, "evaluate")]
        else:
            processes = hosts([*words, "--devices", "2"], script="evaluate")
        codes, said = ended(processes)
        assert codes == [0] * len(codes), said
        speakers = ["negative ELBO" in out for out, _ in said]
        assert speakers == [True, False][: len(said)]
        found.append(json.loads((workdir / "evaluation.json").read_text()))
    one, two = found
    assert one["examples"] == two["examples"] > 300  # the last batch is filled up
    assert one.keys() == two.keys() > {"elbo", "nll", "nll_se", "active_units"}
    for name in one.keys() - {"split"}:
        assert two[name] == pytest.approx(one[name], rel=1e-5, abs=1e-6), name
    each, of_two = (read_npz(tmp_path / n / "each.npz") for n in ("0", "1"))
    np.testing.assert_array_equal(of_two["label"], each["label"])
    np.testing.assert_allclose(of_two["nll"], each["nll"], rtol=1e-4)


def test_hosts_must_agree_on_the_evaluation(whole):
    words = [str(whole), "--batch-size", "12", "--samples", "0"]
    processes = hosts(words, more=((), ("--split", "train")), script="evaluate")
    codes, said = ended(processes)
    assert codes == [2, 2], said
    for _, error in said:
        assert "split train (here test)" in error.splitlines()[-1]
    assert not (whole / "evaluation.json").exists()


def test_a_dead_host_ends_the_other_within_the_heartbeat(tmp_path):
    processes = hosts(
        ["--epochs", "10000", "--heartbeat", "10", "--workdir", str(tmp_path / "run")]
    )
    try:
        wait_for(lambda: rows(tmp_path / "run"), processes)
        processes[1].kill()
        died = time.monotonic()
        processes[0].wait(timeout=240)
        waited = time.monotonic() - died
    finally:
        codes, said = ended(processes)
    assert codes[0] not in (0, None)
    assert "another task died" in said[0][1]
    assert waited < 75  # 10 and what JAX needs to notice; it is 86 of JAX's default 100


def test_hosts_must_agree_on_the_settings(tmp_path):
    processes = hosts(
        ["--epochs", "1", "--workdir", str(tmp_path / "run")],
        more=((), ("--beta", "2")),
    )
    codes, said = ended(processes)
    assert codes == [2, 2], said
    for _, error in said:
        line = error.splitlines()[-1]
        assert "host 1 has another configuration" in line
        assert "beta 2.0 (here 1.0)" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--hosts 2", "need --distributed"),
        ("--distributed --hosts 2", "go together"),
        ("--distributed --coordinator a:1 --hosts 2 --host 2", "2 hosts are 0 to 1"),
    ],
)
def test_hosts_that_cannot_meet(arguments, message, tmp_path):
    codes, said = ended([start([*arguments.split(), "--workdir", str(tmp_path)], 1)])
    assert codes == [2]
    assert message in said[0][1].splitlines()[-1]
