"""The examples of docs/clusters.md are sound, and give flags that there are."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "clusters.md").read_text()


def blocks(language):
    """The examples in a language, also those within a list."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", TEXT, re.DOTALL | re.M)
    return [re.sub(f"^{indent}", "", text, flags=re.M) for indent, text in found]


BASH, YAML = blocks("bash"), blocks("yaml")
(SBATCH,) = (text for text in BASH if "#SBATCH" in text)
PLAIN = BASH[-1]


@pytest.fixture
def fakes(tmp_path):
    """Runs an example where a trainer, `srun` and the like are these."""
    (tmp_path / "codes").write_text("143\n143\n1\n")
    take = 'read -r code <codes; sed -i 1d codes; echo "$*" >>calls; exit "$code"'
    for name, does in {
        "python": take,
        "srun": take,
        "scontrol": 'echo "scontrol $*" >>calls',
        "sleep": "",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{does}\n")
        (tmp_path / name).chmod(0o755)

    def run(text):
        variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
        done = subprocess.run(
            ["bash", "-c", text], cwd=tmp_path, env=os.environ | variables, timeout=60
        )
        return done.returncode, (tmp_path / "calls").read_text().splitlines()

    return run


@pytest.mark.parametrize("text", BASH, ids=range(len(BASH)))
def test_bash_parses(text):
    subprocess.run(["bash", "-n", "-c", text], check=True)


def test_slurm_requeues_on_143_alone(fakes):
    code, calls = fakes(SBATCH)
    assert code == 143
    assert calls[1] == "scontrol requeue 7"
    assert fakes(SBATCH)[1][3] == "scontrol requeue 7"
    code, calls = fakes(SBATCH)
    assert (code, len(calls)) == (1, 5)


def test_the_loop_goes_on_after_143_alone(fakes):
    code, calls = fakes(PLAIN)
    assert code == 1
    assert len(calls) == 3


def test_yaml_parses():
    yaml = pytest.importorskip("yaml")
    service, job, job_set = (each for text in YAML for each in yaml.safe_load_all(text))
    name = job["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": name}
    assert service["metadata"]["name"] == job["spec"]["template"]["spec"]["subdomain"]
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 2
    assert job_set["spec"]["replicatedJobs"][0]["template"]["spec"]["parallelism"] == 4


def test_the_trainer_has_these_flags():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "train.py", "vae", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    trained = re.findall(r"scripts/train\.py.*?(?:\n\n|\n```|resources)", TEXT, re.S)
    given = [*trained, *re.findall(r"^ *run=.*", TEXT, re.M)]
    flags = {flag for text in given for flag in re.findall(r"--[a-z][a-z-]+", text)}
    assert {"--distributed", "--coordinator", "--batch-size"} <= flags
    known = set(re.findall(r"--[a-z][a-z-]+", done.stdout))
    assert flags <= known


def test_the_tpu_script_has_these_options(monkeypatch):
    """Its examples, as dry runs."""
    setup = next(text for text in BASH if text.startswith("tpu="))
    setup = setup.rpartition("scripts/")[0].replace("BUCKET", "bucket")
    shown = re.findall(r"^ *(scripts/tpu_vm\.sh [^#\n]*)", TEXT, re.M)
    assert len(shown) == 9
    for line in shown:
        words = line if "--dry-run" in line else line.replace("$tpu", "$tpu --dry-run")
        done = subprocess.run(
            ["bash", "-c", setup + words], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "gcloud" in done.stdout
