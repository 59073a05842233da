"""Strict flags for every test; data and compiled programs that all workers share.

Tests run on one simulated device, as most of their time is compilation and eight
devices double it. Those marked `devices` need eight:
`JAX_NUM_CPU_DEVICES=8 pytest -m devices`.
"""

import gc
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

# Before JAX is imported: the CPU alone, and compiled programs kept for the run.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "1")
# Most of the tests' time is compilation: XLA shall not optimize (a third of its time).
UNOPTIMIZED = [
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
]
# XLA ends the process at a flag that it does not know, and this one went after 0.10.
if version("jaxlib").startswith("0.10."):
    UNOPTIMIZED.append("--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("XLA_FLAGS", " ".join(UNOPTIMIZED))
# One data directory for all workers and subprocesses, kept between test runs.
DATA = Path(tempfile.gettempdir()) / f"vaejax-tests-{os.getuid()}"
os.environ.setdefault("TFDS_DATA_DIR", str(DATA / "tensorflow_datasets"))
# JAX's traces are millions of objects, which the collector would visit time and again
# (7 % of two files' time).
gc.set_threshold(100_000, 50, 100)
# The first process makes the folder of programs; workers and subprocesses inherit it.
PROGRAMS = None
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    PROGRAMS = tempfile.mkdtemp(prefix="vaejax-programs-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = PROGRAMS
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")

SIMULATED = 8
"""Devices that a test marked `devices` has."""
SLOW_FIXTURES = {"compiled", "site"}
"""Compilations for absent TPUs, and the site: their tests are slow, too."""


# `make test-peers` runs them, in an environment that has what they compare with.
collect_ignore = ["peers"]


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marker
def pytest_collection_modifyitems(items):
    """Marks tests by their fixtures, and skips those that need more devices.

    Notebooks, which take longest, come first, so that no worker ends with one alone.
    """
    items.sort(key=lambda item: "test_notebooks" not in item.nodeid)
    for item in items:
        if SLOW_FIXTURES & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)
    if int(os.environ["JAX_NUM_CPU_DEVICES"]) >= SIMULATED:
        return
    command = f"JAX_NUM_CPU_DEVICES={SIMULATED} pytest -m devices"
    skip = pytest.mark.skip(reason=f"needs {SIMULATED} devices: {command}")
    for item in items:
        if item.get_closest_marker("devices"):
            item.add_marker(skip)


@pytest.fixture(scope="module", autouse=True)
def programs_are_dropped():
    """A worker that kept all its compiled programs would grow to 4 GB."""
    yield
    jax.clear_caches()


def pytest_unconfigure():
    if PROGRAMS:
        shutil.rmtree(PROGRAMS, ignore_errors=True)
