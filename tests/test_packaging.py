"""A wheel of vaejax holds all that it needs."""

import configparser
from fnmatch import fnmatch
from pathlib import Path

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
