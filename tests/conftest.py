"""Strict flags for every test, and data prepared once for all workers."""

import os
import tempfile
from pathlib import Path

# Before JAX is imported: eight simulated devices, the CPU alone.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
# One data directory for all workers and subprocesses, kept between test runs.
DATA = Path(tempfile.gettempdir()) / f"vaejax-tests-{os.getuid()}"
os.environ.setdefault("TFDS_DATA_DIR", str(DATA / "tensorflow_datasets"))

import jax  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
