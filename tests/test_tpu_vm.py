"""The TPU VM script, against a gcloud that only pretends: two hosts are two folders."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
NAMED = ("--name", "a", "--zone", "us-central1-a", "--project", "p")
SETTINGS = (*NAMED, "--type", "v5litepod-16", "--poll", "0")
SOURCE = ("--repo", "https://example.org/vaejax.git", "--ref", "v1")
BUCKET = ("--workdir", "gs://bucket/run")
ODD = ["vae", "--dataset", "npz:gs://b/it's $HOME.npz", '"x"', "a\nb", "", "*", "-\\-"]

# What it says and does is in `world`; each call is a line of `calls`.
GCLOUD = """
import json, os, pathlib, subprocess, sys
world = pathlib.Path(os.environ["WORLD"])
words = sys.argv[1:]
with (world / "calls").open("a") as calls:
    calls.write(json.dumps(words) + "\\n")
group, verb = words[2:4]
state = world / group
if verb == "describe":
    if not state.exists():
        sys.exit("ERROR: (gcloud.compute.tpus) NOT_FOUND: no such resource")
    print(state.read_text())
if verb == "create":
    state.write_text("ACTIVE")
    (world / "tpu-vm").write_text("READY")
if verb == "delete":
    for each in ("tpu-vm", "queued-resources"):
        (world / each).unlink(missing_ok=True)
if verb == "ssh":
    if (world / "tpu-vm").read_text() != "READY":
        sys.exit("ERROR: the TPU is in a terminal state")
    options = dict(w.removeprefix("--").split("=", 1) for w in words if "=" in w)
    hosts = range(2) if options["worker"] == "all" else [int(options["worker"])]
    started = [
        subprocess.Popen(
            ["bash", "-c", options["command"]],
            env=os.environ | {"HOME": str(world / f"host{h}"), "MEGASCALE_SLICE_ID": "1"},
        )
        for h in hosts
    ]
    sys.exit(max(each.wait() for each in started))
"""
# The processes that hold a TPU are those of the file `holders`; nothing else is done.
SUDO = """
case $1 in
  find) while read -r pid; do
      if kill -0 "$pid" 2>/dev/null; then echo "/proc/$pid/fd/3"; fi
    done <"$WORLD/holders" ;;
  kill) "$@" ;;
esac
echo "$*" >>"$WORLD/sudo"
"""
CURL = """
cat <<'END'
cat >"$UV_INSTALL_DIR/uv" <<'UV'
echo "$*" >>"$HOME/uv-calls"
case $1 in
  --version) echo "uv 0.13.7 (fake)" ;;
  venv) mkdir -p .venv/bin && ln -sf "$WORLD/python" .venv/bin/python ;;
  pip) [ "$2" != freeze ] || echo jax==1 ;;
esac
UV
sed -i '1i #!/bin/sh' "$UV_INSTALL_DIR/uv" && chmod +x "$UV_INSTALL_DIR/uv"
END
mkdir -p "$HOME/.local/bin"
"""
# A run on host 0 takes the next line of `fates`: an exit code, and what becomes of the
# TPU; on SIGTERM it ends as ours do.
TRAIN = """
import json, os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
world, home = pathlib.Path(os.environ["WORLD"]), pathlib.Path.home()
given = {"argv": sys.argv[1:], "env": dict(os.environ)}
(home / "given.json").write_text(json.dumps(given))
print("training on", home.name)
fate, *later = (world / "fates").read_text().splitlines()
code, state = fate.split()
if home.name == "host0":
    time.sleep(0.5)  # the other has read it
    (world / "fates").write_text("\\n".join(later))
    (world / "tpu-vm").write_text(state)
sys.exit(time.sleep(60)) if code == "wait" else sys.exit(int(code))
"""


def executable(path, text, interpreter):
    path.write_text(f"#!{interpreter}\n{text}")
    path.chmod(0o755)


def git(*words, cwd):
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *author, *words], cwd=cwd, check=True, capture_output=True)


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A project in which there is no TPU yet, and a repository to install from."""
    fakes = tmp_path / "bin"
    for folder in ("bin", "host0", "host1", "origin/scripts"):
        (tmp_path / folder).mkdir(parents=True)
    executable(fakes / "gcloud", GCLOUD, sys.executable)
    executable(fakes / "sudo", SUDO, "/bin/bash")
    executable(fakes / "curl", CURL, "/bin/bash")
    executable(tmp_path / "python", f'exec {sys.executable} "$@"', "/bin/bash")
    (tmp_path / "holders").touch()
    (tmp_path / "calls").touch()
    origin = tmp_path / "origin"
    (origin / "scripts" / "train.py").write_text(TRAIN)
    git("init", "--quiet", "-b", "main", cwd=origin)
    git("add", ".", cwd=origin)
    git("commit", "--quiet", "-m", "a", cwd=origin)
    monkeypatch.setenv("PATH", f"{fakes}:{os.environ['PATH']}")
    monkeypatch.setenv("WORLD", str(tmp_path))
    return tmp_path


def script(*words):
    return subprocess.run(
        ["bash", SCRIPTS / "tpu_vm.sh", *words], capture_output=True, text=True
    )


def resume(world, *words):
    origin = ("--repo", str(world / "origin"), "--ref", "main")
    return script("resume", *SETTINGS, *origin, *BUCKET, *words, "--", *ODD)


def commands(text):
    """The commands of a dry run."""
    words = iter(shlex.split(text.replace("\ngcloud ", "\n; gcloud ")))
    found = [[]]
    for word in words:
        found = [*found, []] if word == ";" else [*found[:-1], [*found[-1], word]]
    return found


def remote(command):
    """The script that an ssh command runs on the hosts."""
    (word,) = (w for w in command if w.startswith("--command="))
    shell, flag, inner = shlex.split(word.removeprefix("--command="))
    assert (shell, flag) == ("bash", "-c")
    return inner


def calls(world, since=0):
    lines = (world / "calls").read_text().splitlines()[since:]
    return [" ".join(json.loads(line)[2:4]) for line in lines]


def verbs(world):
    """What was asked of gcloud that changes something; ssh by what it runs."""
    lines = [json.loads(line) for line in (world / "calls").read_text().splitlines()]
    found = [
        remote(w).splitlines()[-1].split()[0] if w[3] == "ssh" else w[3] for w in lines
    ]
    return [verb for verb in found if verb not in ("describe", "worker_code")]


CYCLE = ["worker_install", "worker_end", "worker_start", "worker_follow"]
DRY = {
    "create": ["tpu-vm create", "tpu-vm describe"],
    "install": ["tpu-vm ssh"],
    "start": ["tpu-vm ssh"] * 2,
    "follow": ["tpu-vm ssh"],
    "status": ["tpu-vm describe", "tpu-vm ssh"],
    "stop": ["tpu-vm ssh"],
    "delete": ["tpu-vm delete"],
    "resume": [
        *("tpu-vm describe", "tpu-vm create", "tpu-vm describe"),
        *["tpu-vm ssh"] * 5,
    ],
}


@pytest.mark.parametrize("command", DRY)
def test_a_dry_run_prints_what_would_run(command, world):
    done = script(command, "--dry-run", *SETTINGS, *SOURCE, *BUCKET, "--", *ODD)
    assert done.returncode == 0, done.stderr
    found = commands(done.stdout)
    assert [" ".join(words[3:5]) for words in found] == DRY[command]
    for words in found:
        assert words[:3] == ["gcloud", "compute", "tpus"]
        assert words[5:9] == ["a", "--zone=us-central1-a", "--project=p", "--quiet"]
        if words[4] == "ssh":
            subprocess.run(["bash", "-n", "-c", remote(words)], check=True)
            one = "worker_follow" in remote(words).splitlines()[-1]
            assert f"--worker={0 if one else 'all'}" in words
    assert calls(world) == []


@pytest.mark.parametrize(
    ("kind", "software"),
    [("v5litepod-16", "v2-alpha-tpuv5-lite"), ("v4-32", "tpu-ubuntu2204-base")],
)
def test_a_spot_vm_is_asked_for_in_the_queue(kind, software):
    flags = ("--spot", "--create-flag", "--network=n", "--dry-run")
    done = script("create", *NAMED, "--type", kind, *flags)
    create = commands(done.stdout)[0]
    assert create[3:6] == ["queued-resources", "create", "a"]
    asked = {f"--accelerator-type={kind}", f"--runtime-version={software}"}
    assert {*asked, "--node-id=a", "--spot", "--network=n"} <= set(create)
    done = script("delete", *NAMED, "--spot", "--dry-run")
    assert commands(done.stdout)[0][3:5] == ["queued-resources", "delete"]
    assert "--force" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("start", *SETTINGS, "--workdir", "/tmp/run", "--", "vae"), "own disk"),
        (("start", *SETTINGS, "--workdir", "runs/a", "--", "vae"), "gs://BUCKET/PATH"),
        (("start", *SETTINGS, "--", "vae"), "give --workdir"),
        (("start", *SETTINGS, *BUCKET), "preset"),
        (("start", *SETTINGS, *BUCKET, "--", "vae", "--distributed"), "by this script"),
        (("resume", *NAMED, *SOURCE, *BUCKET, "--", "vae"), "--type"),
        (("create", *NAMED, "--type", "v9-8"), "--version"),
        (("create", "--type", "v4-8"), "--name and --zone"),
        (("create", "--nmae", "a"), "no option --nmae"),
        (("create", "--name"), "needs a value"),
        (("restart",), "no command restart"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(words, said, world):
    done = script(*words)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert calls(world) == []


def test_settings_come_from_the_environment(monkeypatch):
    for name, value in {"NAME": "b", "ZONE": "z", "TYPE": "v4-8", "SPOT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DRY_RUN", "1")
    create = commands(script("create").stdout)[0]
    assert create[3:7] == ["queued-resources", "create", "b", "--zone=z"]
    shared = ("--shared", "--workdir=/mnt/run")
    assert script("start", *shared, "--", "vae").returncode == 0


def test_arguments_reach_every_host_as_they_were_given(world):
    (world / "fates").write_text("0 READY")
    done = resume(world)
    assert done.returncode == 0, done.stderr
    assert "training on host0" in done.stdout
    assert "training on host1" not in done.stdout
    for host in (world / "host0", world / "host1"):
        given = json.loads((host / "given.json").read_text())
        assert given["argv"] == [*ODD, *BUCKET, "--distributed"]
        assert given["env"]["JAX_PLATFORMS"] == "tpu"
        assert given["env"]["JAX_COORDINATOR_PORT"] == "8476"
        assert not [name for name in given["env"] if name.startswith("MEGASCALE")]
        assert (host / "vaejax-run" / "log").read_text() == f"training on {host.name}\n"
        asked = (host / "uv-calls").read_text()
        assert "venv --quiet --allow-existing --python 3.12 .venv" in asked
        assert "-c constraints.txt -e .[tpu,gcs]" in asked
    done_as_root = (world / "sudo").read_text()
    assert "transparent_hugepage/enabled" in done_as_root
    assert "rm -f /tmp/libtpu_lockfile" in done_as_root


def test_after_a_preemption_the_tpu_is_made_anew(world):
    """The first is gone without a word, the second says 143, the third is done."""
    (world / "fates").write_text("wait PREEMPTED\n143 PREEMPTED\n0 READY")
    (world / "tpu-vm").write_text("PREEMPTED")
    preempted = subprocess.Popen(
        [
            "sh",
            "-c",
            'until [ "$(wc -l <"$0/fates")" = 1 ]; do sleep 0.1; done\n'
            'kill $(cat "$0"/host*/vaejax-run/pid)',
            str(world),
        ]
    )
    done = resume(world)
    assert preempted.wait() == 0
    assert done.returncode == 0, done.stderr
    cycles = ["delete", "create", *CYCLE]
    assert verbs(world) == cycles * 3
    assert "a is PREEMPTED: deleting it" in done.stderr


def test_a_spot_vm_goes_back_to_the_queue(world):
    (world / "fates").write_text("143 PREEMPTED\n0 READY")
    done = resume(world, "--spot")
    assert done.returncode == 0, done.stderr
    assert verbs(world) == ["create", *CYCLE, "delete", "create", *CYCLE]
    assert calls(world).count("queued-resources create") == 2


@pytest.mark.parametrize("code", [1, 2])
def test_what_fails_again_is_not_started_again(code, world):
    (world / "fates").write_text(f"{code} READY")
    assert resume(world).returncode == code
    assert verbs(world) == ["create", *CYCLE]


def test_a_run_that_keeps_dying_is_given_up(world):
    (world / "fates").write_text("134 READY\n" * 9)
    done = resume(world, "--restarts", "1")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: the run failed 2 times")
    assert verbs(world) == ["create", *CYCLE, *CYCLE]


def test_stop_lets_the_run_save(world):
    (world / "fates").write_text("wait READY")
    (world / "tpu-vm").write_text("READY")
    origin = ("--repo", str(world / "origin"), "--ref", "main")
    for command in ("install", "start"):
        done = script(command, *SETTINGS, *origin, *BUCKET, "--", "vae")
        assert done.returncode == 0, done.stderr
    assert "running running" in script("status", *NAMED).stdout
    until = time.monotonic() + 20
    while (world / "fates").read_text() and time.monotonic() < until:
        time.sleep(0.1)
    assert script("stop", *NAMED).returncode == 0
    done = script("follow", *NAMED)
    assert (done.returncode, done.stdout) == (143, "training on host0\n")
    assert "143 143" in script("status", *NAMED).stdout


@pytest.mark.parametrize(("stubborn", "signal"), [(False, 15), (True, 9)])
def test_what_holds_the_tpu_is_ended(stubborn, signal, world):
    trap = "trap '' TERM; " if stubborn else ""
    held = subprocess.Popen(
        ["bash", "-c", f"{trap}echo; while :; do sleep 0.1; done"],
        stdout=subprocess.PIPE,
    )
    held.stdout.readline()
    (world / "holders").write_text(f"{held.pid}\n")
    # Its parent must not wait for it: a zombie would still be there.
    call = f". {shlex.quote(str(SCRIPTS / 'tpu_host.sh'))}; set -euo pipefail; worker_end 2"
    ending = subprocess.Popen(["bash", "-c", call])
    assert held.wait(timeout=20) == -signal
    assert ending.wait(timeout=20) == 0
    held.stdout.close()


def test_a_number_that_is_now_anothers_is_left_alone(world):
    run = world / "host0" / "vaejax-run"
    run.mkdir()
    other = subprocess.Popen(["sleep", "60"])
    (run / "pid").write_text(f"{other.pid}\n")
    call = f". {shlex.quote(str(SCRIPTS / 'tpu_host.sh'))}; worker_end 1; worker_code"
    done = subprocess.run(
        ["bash", "-c", call],
        env=os.environ | {"HOME": str(run.parent)},
        capture_output=True,
        text=True,
    )
    assert other.poll() is None
    other.kill()
    other.wait()
    assert done.stdout == "vaejax-run: none\n"


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="needs shellcheck")
def test_shellcheck():
    files = [SCRIPTS / "tpu_vm.sh", SCRIPTS / "tpu_host.sh"]
    subprocess.run(["shellcheck", "-x", *files], check=True, cwd=SCRIPTS.parent)


def test_help_names_every_command_and_option():
    said = script("--help").stdout
    text = (SCRIPTS / "tpu_vm.sh").read_text()
    parser = text.partition("parse() {")[2].partition("\n}")[0]
    for word in (*DRY, *re.findall(r"--[a-z]+(?:-[a-z]+)*", parser)):
        assert re.search(rf"^  {word} ", said, re.MULTILINE), word
