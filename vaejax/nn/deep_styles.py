"""The differences between deep hierarchies, as their papers' code has them."""

from functools import partial
from typing import NamedTuple

import flax.linen as nn

from vaejax.nn.layers import Activation
from vaejax.nn.starts import GLOROT, Initializer, within_inputs


class Style(NamedTuple):
    """The differences between the models of Child 2021 and of Hazami et al. 2022."""

    activation: Activation
    start: Initializer
    """Initializer of kernels that have no smaller start of their own; biases are 0."""
    mirrored: bool
    """Whether each block of the decoder sees a block of the encoder of its own."""
    resampled: bool
    """Whether maps are pooled and enlarged by learned layers, and not by means and
    copies."""
    projected: bool
    """Whether one more layer makes Gaussians of the features of prior and posterior."""
    zero_prior: bool
    """Whether all priors begin at 0, hence as standard normals."""
    input_side: int
    """Side of the first convolution."""
    scaled_output: bool
    """Whether channels of the last map are scaled and shifted before p(x | z)."""


VDVAE = Style(
    activation=partial(nn.gelu, approximate=False),
    start=within_inputs,
    mirrored=False,
    resampled=False,
    projected=False,
    zero_prior=True,
    input_side=3,
    scaled_output=True,
)
"""[Child 2021], as its code has it."""
EFFICIENT = Style(
    activation=nn.silu,
    start=GLOROT.kernel,
    mirrored=True,
    resampled=True,
    projected=True,
    zero_prior=False,
    input_side=1,
    scaled_output=False,
)
"""[Hazami et al. 2022], as its code has it."""
