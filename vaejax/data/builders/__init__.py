"""TFDS builders of the sets which installed packages ship: no network, no TensorFlow.

The builders themselves are imported only to prepare a set.
"""

VERSIONS = {"mnist_5k": "1.0.0", "digits": "1.0.0", "breast_cancer": "1.0.0"}
"""Our sets, and the version of each that this library prepares."""
