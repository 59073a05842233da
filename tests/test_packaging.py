"""A wheel of vaejax holds all that it needs."""

import configparser
import os
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
import setuptools

from vaejax import presets, train

ROOT = Path(__file__).parents[1]


def package_of(path):
    """The nearest folder above that is a package."""
    return next(folder for folder in path.parents if (folder / "__init__.py").exists())


def test_files_that_are_no_modules_are_package_data():
    """Every one of them matches a pattern of its package, or reports would fail."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    patterns = config["options.package_data"]
    files = [
        path
        for path in (ROOT / "vaejax").rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    ]
    assert len(files) > 5
    for path in files:
        package = package_of(path)
        name = ".".join(package.relative_to(ROOT).parts)
        globs = [*patterns["*"].split(","), *patterns.get(name, "").split(",")]
        inside = path.relative_to(package).as_posix()
        assert any(fnmatch(inside, glob.strip()) for glob in globs), path


def pip(*words):
    """Runs pip, which may not look anything up."""
    command = [sys.executable, "-m", "pip", *map(str, words), "--no-deps"]
    environment = os.environ | {"PIP_NO_INDEX": "1"}
    subprocess.run(command, check=True, env=environment, capture_output=True)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder into which the wheel of a copy of the checkout is installed."""
    if int(setuptools.__version__.split(".")[0]) < 77:  # as pyproject.toml says
        pytest.skip("wheels are built by setuptools >= 77: pip install -U setuptools")
    pytest.importorskip("pip")  # environments that uv made have none
    home = tmp_path_factory.mktemp("wheel")
    copied = home / "checkout"
    copied.mkdir()
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE", "vaejax"):
        (copied / name).symlink_to(ROOT / name)  # builds leave their files beside it
    pip("wheel", "--no-build-isolation", "--wheel-dir", home, copied)
    (wheel,) = home.glob("vaejax-*.whl")
    pip("install", "--target", home / "site", wheel)
    return home / "site"


REPORTS = """
import sys
from pathlib import Path
import vaejax
assert Path(vaejax.__file__).is_relative_to(sys.argv[1]), vaejax.__file__
print(vaejax.report(sys.argv[2]))
"""


@pytest.mark.slow
def test_an_installed_wheel_writes_reports(installed, tmp_path):
    tiny = {"dataset": "digits", "hidden": (8,), "latents": 2, "epochs": 1}
    train(presets.vae(**tiny), tmp_path / "run", quiet=True, devices=1)
    done = subprocess.run(
        [sys.executable, "-c", REPORTS, installed, tmp_path / "run"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "<style" in page
    assert page.rstrip().endswith("</html>")
    for name in ("py.typed", "presets/references.bib"):
        assert (installed / "vaejax" / name).read_bytes() == (
            ROOT / "vaejax" / name
        ).read_bytes()
