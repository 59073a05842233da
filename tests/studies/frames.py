"""Frames from the command line of a checkout to a model, for house.py:
PYTHONPATH=FOLDER python tests/studies/frames.py FOLDER

Trains one small run; the checkout may be of an older edition, whose package it imports.
"""

import runpy
import sys
import tempfile
import traceback
from pathlib import Path


def frames(root: Path) -> tuple[str, str]:
    """Frames and files of a checkout from the command to a model, and from the script.

    The first is empty where the command has another name.
    """
    from vaejax.models import VAE

    seen: list[traceback.StackSummary] = []
    posterior = VAE.posterior

    def noted(self, batch):
        seen.append(traceback.extract_stack())
        return posterior(self, batch)

    VAE.posterior = noted
    small = ["--dataset", "digits", "--epochs", "1", "--devices", "1"]
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = ["train.py", "vae", *small, "--workdir", f"{folder}/run"]
        runpy.run_path(str(root / "scripts" / "train.py"), run_name="__main__")
    ours = (str(root / "vaejax"), str(root / "scripts"))
    paths = [[f for f in stack if f.filename.startswith(ours)] for stack in seen]
    steps = [path for path in paths if any(f.name == "train_step" for f in path)]
    longest = max(steps, key=len)
    for frame in longest:
        print(f"  {Path(frame.filename).relative_to(root)}: {frame.name}")
    names = [frame.name for frame in longest]
    if "train_run" not in names:
        return "", counted(longest)
    inner = longest[names.index("train_run") : names.index("infer") + 1]
    return counted(inner), counted(longest)


def counted(frames: list[traceback.FrameSummary]) -> str:
    return f"{len(frames)}, {len({f.filename for f in frames})} files"


if __name__ == "__main__":
    print("; ".join(frames(Path(sys.argv[1]))))
