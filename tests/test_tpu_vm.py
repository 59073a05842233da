"""The TPU VM script, against a gcloud that only pretends: two hosts are two folders."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parents[1] / "scripts"
NAMED = ("--name", "a", "--zone", "us-central1-a", "--poll", "0")
KIND = ("--type", "v5litepod-16")
RUN = ("--share", "gs://bucket", "--workdir", "runs/a")
ODD = ["vae", "--dataset", "npz:it's $HOME.npz", '"x"', "a\nb", "", "*", "-\\-", "é"]
TRAINED = [*ODD, "--workdir", "/mnt/share/runs/a", "--distributed"]

# The TPU and its place in the queue are files that hold their states.
GCLOUD = """
import json, os, pathlib, shutil, subprocess, sys
world = pathlib.Path(os.environ["WORLD"])
words = sys.argv[1:]
with (world / "calls").open("a") as calls:
    calls.write(json.dumps(["gcloud", *words]) + "\\n")
group, verb = words[2:4]
options = dict(w.removeprefix("--").split("=", 1) for w in words if "=" in w)
if verb == "describe":
    if not (world / group).exists():
        sys.exit("ERROR: (gcloud.compute.tpus) NOT_FOUND: no such resource")
    print((world / group).read_text())
if verb == "create":
    if (world / "none").exists():
        sys.exit("ERROR: no more capacity")
    (world / group).write_text("ACTIVE")
    (world / "tpu-vm").write_text("READY")
if verb == "delete":
    for each in ("tpu-vm", "queued-resources"):
        (world / each).unlink(missing_ok=True)
    for host in range(2):  # their disks vanish with them
        shutil.rmtree(world / f"host{host}")
        (world / f"host{host}").mkdir()
if verb in ("ssh", "scp"):
    if (world / "tpu-vm").read_text() != "READY":
        sys.exit("ERROR: the TPU is in a terminal state")
    hosts = range(2) if options["worker"] == "all" else [int(options["worker"])]
    homes = [world / f"host{host}" for host in hosts]
if verb == "scp":
    for home in homes:
        shutil.copy(words[4], home / words[5].partition(":")[2])
if verb == "ssh":
    stale = {"MEGASCALE_SLICE_ID": "1"}
    started = [
        subprocess.Popen(
            ["bash", "-c", options["command"]],
            cwd=home,
            env=os.environ | {"HOME": str(home)} | stale,
        )
        for home in homes
    ]
    sys.exit(max(each.wait() for each in started))
"""
# What holds a TPU is in the file `holders`; of what root does, only signals are real.
SUDO = """
case $1 in
  find) while read -r pid; do
      if kill -0 "$pid" 2>/dev/null; then echo "/proc/$pid/fd/3"; fi
    done <"$WORLD/holders" ;;
  kill) "$@" ;;
  tee) cat >/dev/null ;;
esac
echo "$*" >>"$WORLD/sudo"
"""
MOUNTPOINT = '[ -e "$HOME/mounted" ]'
GCSFUSE = 'touch "$HOME/mounted"; echo "$*" >"$HOME/gcsfuse-call"'
CURL = """
cat <<'END'
mkdir -p "$UV_INSTALL_DIR"
cat >"$UV_INSTALL_DIR/uv" <<'UV'
echo "$*" >>"$HOME/uv-calls"
mkdir -p "$HOME/vaejax-env/bin"
ln -sf "$WORLD/bin/python-of-host" "$HOME/vaejax-env/bin/python"
UV
sed -i '1i #!/bin/sh' "$UV_INSTALL_DIR/uv" && chmod +x "$UV_INSTALL_DIR/uv"
END
"""
# A run takes the next line of its host's fates: an exit code, or `wait` for a signal or
# the file `end`; and what the TPU's state is then. On SIGTERM it ends as ours does.
TRAIN = """
import json, os, pathlib, signal, sys, time
world, home = pathlib.Path(os.environ["WORLD"]), pathlib.Path.home()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
given = {"argv": sys.argv[1:], "env": dict(os.environ)}
(home / "given.json").write_text(json.dumps(given))
print("training on", home.name, flush=True)
fates = world / f"fates-{home.name}"
(code, *state), *later = [line.split() for line in fates.read_text().splitlines()]
fates.write_text("\\n".join(" ".join(each) for each in later))
time.sleep(0.2)
while code == "wait":
    time.sleep(0.05)
    code = "0" if (home / "end").exists() else code
if state:
    (world / "tpu-vm").write_text(*state)
sys.exit(int(code))
"""


def executable(path, text, interpreter="/bin/bash"):
    path.write_text(f"#!{interpreter}\n{text}")
    path.chmod(0o755)


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A project in which there is no TPU yet, and a repository with the scripts."""
    for folder in ("bin", "host0", "host1", "repository/scripts"):
        (tmp_path / folder).mkdir(parents=True)
    fakes = tmp_path / "bin"
    executable(fakes / "gcloud", GCLOUD, sys.executable)
    executable(fakes / "sudo", SUDO)
    executable(fakes / "curl", CURL)
    executable(fakes / "mountpoint", MOUNTPOINT)
    executable(fakes / "gcsfuse", GCSFUSE)
    executable(fakes / "sleep", f"exec {shutil.which('sleep')} 0.02")
    executable(fakes / "python-of-host", f'exec {sys.executable} "$@"')
    for empty in ("holders", "calls"):
        (tmp_path / empty).touch()
    repository = tmp_path / "repository"
    for name in ("tpu_vm.sh", "tpu_host.sh"):
        shutil.copy(SCRIPTS / name, repository / "scripts")
    (repository / "scripts" / "train.py").write_text(TRAIN)
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "a"]):
        subprocess.run(["git", *words], cwd=repository, check=True)
    monkeypatch.setenv("PATH", f"{fakes}:{os.environ['PATH']}")
    monkeypatch.setenv("WORLD", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    yield tmp_path
    for home in ("host0", "host1"):
        host(tmp_path, home, "stop")


def script(world, *words):
    return subprocess.run(
        ["bash", world / "repository" / "scripts" / "tpu_vm.sh", *words],
        capture_output=True,
        text=True,
        timeout=120,
    )


def resume(world, *words, wait=True):
    given = ("resume", *NAMED, *KIND, *RUN, *words, "--", *ODD)
    if wait:
        return script(world, *given)
    path = world / "repository" / "scripts" / "tpu_vm.sh"
    return subprocess.Popen(["bash", path, *given])


def wait_for(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def host(world, home, *words):
    """A verb of the hosts' script, on one of them."""
    return subprocess.run(
        ["bash", world / "repository" / "scripts" / "tpu_host.sh", *words],
        env=os.environ | {"HOME": str(world / home)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def fates(world, *lines, on=("host0", "host1")):
    for home in on:
        (world / f"fates-{home}").write_text("\n".join(lines))


def split(text):
    """Words, as a shell reads them."""
    done = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {text}"], capture_output=True, check=True
    )
    return done.stdout.decode().split("\0")[:-1]


def commands(text):
    """The commands of a dry run, one a line."""
    return [split(line) for line in text.splitlines()]


def calls(world):
    """What was asked of gcloud."""
    return [json.loads(line) for line in (world / "calls").read_text().splitlines()]


def asked(command):
    """A command in two words: of ssh what it has the hosts do."""
    if command[0] == "git" or command[4] != "ssh":
        return " ".join(command[3:5])
    words = remote(command)
    if words[0] == "bash":
        return f"host {words[2]}"
    return "host status" if words[0] == "if" else "host unpack"


def remote(command):
    (text,) = (w for w in command if w.startswith("--command="))
    return split(
        text.removeprefix("--command=").replace("&", r"\&").replace(";", r"\;")
    )


def changes(world):
    """What was asked that changes something."""
    looks = ("tpu-vm describe", "queued-resources describe", "host status")
    return [each for each in map(asked, calls(world)) if each not in looks]


INSTALL = ["tpu-vm scp", "host unpack", "host install"]
CYCLE = [*INSTALL, "host stop", "host start", "host follow"]
DRY = {
    "create": ["tpu-vm create", "tpu-vm describe"],
    "install": ["archive --format=tar.gz", *INSTALL],
    "start": ["host stop", "host start"],
    "follow": ["host follow"],
    "status": ["tpu-vm describe", "host status"],
    "stop": ["host stop"],
    "delete": ["tpu-vm delete"],
    "resume": [
        *("tpu-vm describe", "tpu-vm create", "tpu-vm describe", "host status"),
        *("archive --format=tar.gz", *CYCLE, "host status"),
    ],
}


@pytest.mark.parametrize("command", DRY)
def test_a_dry_run_prints_what_would_run(command, world):
    named = (*NAMED, "--project", "p", *KIND, *RUN)
    done = script(world, command, "--dry-run", *named, "--", *ODD)
    assert done.returncode == 0, done.stderr
    found = commands(done.stdout)
    assert list(map(asked, found)) == DRY[command]
    for words in found:
        if words[0] == "git":
            continue
        assert words[:3] == ["gcloud", "compute", "tpus"]
        assert {"--zone=us-central1-a", "--project=p", "--quiet"} < set(words)
        assert words[5] == "a" or words[6] == "a:vaejax.tar.gz"
        if words[4] in ("ssh", "scp"):  # on one host alone, JAX waits for ever
            worker = 0 if asked(words) == "host follow" else "all"
            assert f"--worker={worker}" in words
        if asked(words) == "host start":
            assert remote(words)[3:] == TRAINED
    assert calls(world) == []


def test_what_runs_is_what_a_dry_run_prints(world):
    fates(world, "0")
    printed = commands(resume(world, "--dry-run").stdout)
    assert calls(world) == []
    done = resume(world)
    assert done.returncode == 0, done.stderr
    assert calls(world) == [words for words in printed if words[0] == "gcloud"]


def test_a_spot_vm_is_asked_for_in_the_queue(world):
    spot = (*NAMED, "--spot", "--create-flag", "--network=n", "--dry-run")
    for kind, software in {
        "v5litepod-16": "v2-alpha-tpuv5-lite",
        "v4-32": "tpu-ubuntu2204-base",
    }.items():
        create = commands(script(world, "create", *spot, "--type", kind).stdout)[0]
        assert create[3:6] == ["queued-resources", "create", "a"]
        wanted = {f"--accelerator-type={kind}", f"--runtime-version={software}"}
        assert {*wanted, "--node-id=a", "--spot", "--network=n"} < set(create)
    (delete,) = commands(script(world, "delete", *spot).stdout)
    assert delete[3:5] == ["queued-resources", "delete"]
    assert "--force" in delete
    (ssh,) = commands(
        script(world, "stop", *NAMED, "--ssh-flag=--internal-ip", "--dry-run").stdout
    )
    assert "--internal-ip" in ssh


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("create", "--name", "a"), "give --zone"),
        (("create", "--zone", "us-central1-a"), "give --name"),
        (("stop", "--name", "a; ls", "--zone", "us-central1-a"), "give --name"),
        (("stop", *NAMED, "--zone", "us"), "give --zone"),
        (("stop", *NAMED, "--project", "my project"), "no project's id"),
        (("stop", *NAMED, "--project", "$(ls)"), "no project's id"),
        (("stop", *NAMED, "--poll", "soon"), "give seconds"),
        (("create", *NAMED), "give --type"),
        (("create", *NAMED, "--type", "v9-8"), "--version"),
        (("install", *NAMED), "give --share"),
        (("install", *NAMED, "--share", "/tmp"), "lost with it"),
        (("start", *NAMED, *RUN), "preset"),
        (("start", *NAMED, "--", "vae"), "give --workdir"),
        (("start", *NAMED, "--workdir", "/tmp/a", "--", "vae"), "within the share"),
        (("start", *NAMED, "--workdir", "gs://b/a", "--", "vae"), "within the share"),
        (("start", *NAMED, *RUN, "--", "vae", "--distributed"), "by this script"),
        (("create", "--nmae", "a"), "no option --nmae"),
        (("create", "--name"), "needs a value"),
        (("restart",), "no command restart"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(words, said, world):
    done = script(world, *words)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert calls(world) == []


def test_every_host_is_prepared_and_gets_the_arguments(world):
    fates(world, "0")
    done = resume(world)
    assert done.returncode == 0, done.stderr
    assert "training on host0" in done.stdout
    assert "training on host1" not in done.stdout
    for home in (world / "host0", world / "host1"):
        given = json.loads((home / "given.json").read_text())
        assert given["argv"] == TRAINED
        assert given["env"]["JAX_PLATFORMS"] == "tpu"
        assert given["env"]["JAX_COORDINATOR_PORT"] == "8476"
        assert given["env"]["JAX_COMPILATION_CACHE_DIR"].startswith("/mnt/share/")
        assert not [name for name in given["env"] if name.startswith("MEGASCALE")]
        assert (home / "vaejax-run/log").read_text() == f"training on {home.name}\n"
        assert (home / "gcsfuse-call").read_text().endswith(" bucket /mnt/share\n")
        venv, packages = (home / "uv-calls").read_text().splitlines()
        assert "--python 3.12" in venv
        assert f"-c {home}/vaejax/constraints.txt -e {home}/vaejax[tpu]" in packages
    done_as_root = (world / "sudo").read_text()
    assert "transparent_hugepage/enabled" in done_as_root
    assert "rm -f /tmp/libtpu_lockfile" in done_as_root


@pytest.mark.parametrize("spot", [True, False])
def test_after_a_preemption_the_tpu_is_made_again(spot, world):
    fates(world, "137 PREEMPTED", "134 PREEMPTED", "0")
    done = resume(world, *["--spot"] * spot)
    assert done.returncode == 0, done.stderr
    queue = "queued-resources" if spot else "tpu-vm"
    made = [f"{queue} create", *CYCLE]
    assert changes(world) == [*made, *[f"{queue} delete", *made] * 2]
    assert done.stderr.count("a was preempted") == 2


def test_a_run_that_goes_on_is_only_followed(world):
    """As after the end of the script's own machine."""
    fates(world, "wait")
    (world / "tpu-vm").write_text("READY")
    for command in ("install", "start"):
        done = script(world, command, *NAMED, *RUN, "--", *ODD)
        assert done.returncode == 0, done.stderr
    before = changes(world)
    resuming = resume(world, wait=False)
    wait_for(lambda: changes(world) != before)
    for home in ("host0", "host1"):
        (world / home / "end").touch()
    assert resuming.wait(timeout=60) == 0
    assert changes(world) == [*before, "host follow"]


@pytest.mark.parametrize("code", [1, 2])
def test_an_error_that_would_come_again_ends_it(code, world):
    """Though it may have ended the other host otherwise."""
    fates(world, str(code), on=["host0"])
    fates(world, "134", on=["host1"])
    assert resume(world).returncode == code
    assert changes(world) == ["tpu-vm create", *CYCLE]


def test_a_run_that_dies_again_and_again_is_given_up(world):
    fates(world, *["134"] * 9)
    done = resume(world)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: the run failed 4 times")
    assert changes(world).count("host start") == 4


@pytest.mark.parametrize("command", ["create", "resume"])
def test_no_capacity_is_said_once(command, world):
    (world / "none").touch()
    done = script(world, command, *NAMED, *KIND, *RUN, "--", "vae")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "ERROR: no more capacity"
    assert changes(world) == ["tpu-vm create"]


def test_a_tpu_that_failed_is_left_to_look_at(world):
    (world / "tpu-vm").write_text("FAILED")
    done = resume(world)
    assert done.returncode == 2
    assert "a is FAILED" in done.stderr
    assert changes(world) == []


def test_stop_lets_the_run_save_and_ends_resume(world):
    fates(world, "wait")
    resuming = resume(world, wait=False)
    wait_for(lambda: not any(f.read_text() for f in world.glob("fates-*")))
    assert "running running" in script(world, "status", *NAMED).stdout
    assert script(world, "stop", *NAMED).returncode == 0
    assert resuming.wait(timeout=60) == 143
    assert "stopped stopped" in script(world, "status", *NAMED).stdout
    done = script(world, "follow", *NAMED)
    assert (done.returncode, done.stdout) == (143, "training on host0\n")


def test_a_host_trains_again_on_143_alone(world):
    fates(world, "143", "143", "3")
    (world / "host0" / "mounted").touch()
    host(world, "host0", "install", "gs://bucket")
    started = host(world, "host0", "start", "vae")
    assert started.returncode == 0, started.stderr
    followed = host(world, "host0", "follow")
    assert followed.returncode == 3
    assert followed.stdout.count("training on host0") == 3
    assert host(world, "host0", "status").stdout == "vaejax-run: 3\n"
    assert (world / "fates-host0").read_text() == ""


def test_start_needs_the_share_and_a_free_tpu(world):
    done = host(world, "host0", "start", "vae")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "nothing is mounted" in done.stderr


@pytest.mark.parametrize(("stubborn", "signal"), [(False, 15), (True, 9)])
def test_what_holds_the_tpu_is_ended(stubborn, signal, world):
    trap = "trap '' TERM; " if stubborn else ""
    held = subprocess.Popen(
        ["bash", "-c", f"{trap}echo; while :; do read -rt 0.1; done"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    held.stdout.readline()
    (world / "holders").write_text(f"{held.pid}\n")
    # Its parent must not wait for it: a zombie would still be there.
    ending = subprocess.Popen(["bash", SCRIPTS / "tpu_host.sh", "stop"])
    assert held.wait(timeout=60) == -signal
    assert ending.wait(timeout=60) == 0
    held.stdin.close()
    held.stdout.close()


def test_a_number_that_is_now_anothers_is_left_alone(world):
    run = world / "host0" / "vaejax-run"
    run.mkdir()
    other = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    (run / "pid").write_text(f"{other.pid}\n")
    assert host(world, "host0", "stop").returncode == 0
    assert host(world, "host0", "status").stdout == "vaejax-run: none\n"
    assert other.poll() is None
    other.communicate()


def test_scripts_are_sound():
    files = [SCRIPTS / "tpu_vm.sh", SCRIPTS / "tpu_host.sh"]
    for file in files:
        subprocess.run(["bash", "-n", file], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", *files], check=True)


def test_help_names_every_command_and_option(world):
    said = script(world, "--help").stdout
    text = (SCRIPTS / "tpu_vm.sh").read_text()
    parser = text.partition("parse() {")[2].partition("\n}")[0]
    for word in (*DRY, *re.findall(r"^ +(--[a-z-]+)\)", parser, re.MULTILINE)):
        assert re.search(rf"^  {word} ", said, re.MULTILINE), word
