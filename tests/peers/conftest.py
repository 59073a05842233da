"""The arrays that `ours.py` wrote, and torch-fidelity without torchvision."""

import os
import sys
import types
from pathlib import Path

import diffusers  # noqa: F401  (before torchvision's stand-in: it asks what is there)
import numpy as np
import pytest


def stand_in_for_torchvision():
    """torch-fidelity imports it for data sets and networks that are not compared, and
    it would have to be of the same build as torch.
    """
    names = ("", ".datasets", ".transforms", ".transforms.functional")
    for name in names:
        sys.modules[f"torchvision{name}"] = types.ModuleType(f"torchvision{name}")
    root = sys.modules["torchvision"]
    root.datasets = sys.modules["torchvision.datasets"]
    root.transforms = sys.modules["torchvision.transforms"]
    root.transforms.functional = sys.modules["torchvision.transforms.functional"]
    for name in ("CIFAR10", "CIFAR100", "STL10"):
        setattr(root.datasets, name, type(name, (), {}))


stand_in_for_torchvision()


def arrays(name):
    with np.load(Path(os.environ["PEERS_FOLDER"]) / name, allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="session")
def given():
    return arrays("inputs.npz")


@pytest.fixture(scope="session")
def ours():
    return arrays("ours.npz")


@pytest.fixture(scope="session")
def lpips_weights():
    return arrays("lpips/lpips.npz")


@pytest.fixture(scope="session")
def weights():
    return arrays("inception.npz")
