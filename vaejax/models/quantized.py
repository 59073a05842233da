"""Autoencoders whose latents are codes: the model, and grids of codes.

A quantizer is called with the encoder's map and gives a `Quantized`; so does `nearest`,
which moves no codebook. `start` begins with encodings what of it is learned;
`values_of` maps codes back to what the decoder reads, and `prior` is the one that has
all codes alike. It has `size` codes at each position of each of its `levels`, and reads
`channels` numbers of a position.
"""

from typing import Any

import flax.linen as nn
import jax
from jax.tree_util import Partial

from vaejax.distributions.codes import Codes, Map, Quantized, UniformCodes
from vaejax.models.base import LatentModel
from vaejax.nn.codebooks import EXACT
from vaejax.nn.finite import Grid, Signs
from vaejax.nn.starts import identity
from vaejax.nn.whitening import whitening
from vaejax.types import Array, Batch, Distribution, Size


class FixedQuantizer(nn.Module, kw_only=True):
    """Codes that are not learned, one at each position: those of `table`.

    If `whitened`, a linear layer stands between encoder and codes. `start` sets it so
    that the channels of the first encodings are uncorrelated [Krahenbuhl et al. 2016];
    from there on it is learned. An encoder that has not been trained gives numbers
    close to each other and to few codes, and training spreads them along one line: the
    distortion does not ask for the codes beside it.

    `softness` is that of the soft choice whose entropy is a loss; 0: there is none.
    """

    softness: float = 0.0
    whitened: bool = False

    def setup(self) -> None:
        if self.whitened:
            self.whitening = nn.Dense(
                self.channels, kernel_init=identity, precision=EXACT
            )

    @property
    def channels(self) -> int:
        """Numbers that it reads of a position."""
        raise NotImplementedError

    @property
    def table(self) -> Grid | Signs:
        """The codes and their values."""
        raise NotImplementedError

    @property
    def size(self) -> int:
        """Number of codes."""
        return self.table.size

    @property
    def levels(self) -> int:
        """One code at each position."""
        return 1

    def nearest(self, h: Map) -> Quantized:
        """Quantizes h as a call does: there is no codebook to move."""
        return self(h)

    def start(self, h: Map, share: float) -> None:
        """Sets the linear layer, if there is one, to whiten the encodings h.

        `share` is of counts, which only learned codebooks have.
        """
        del share
        if self.whitened:
            kernel, bias = whitening(h.reshape(-1, self.channels))
            self.whitening.put_variable("params", "kernel", kernel)
            self.whitening.put_variable("params", "bias", bias)

    def spread(self, h: Map) -> Map:
        """Sends h through the linear layer, if there is one."""
        return self.whitening(h) if self.whitened else h

    def chosen(self, inputs: Map, values: Map) -> Quantized:
        """Inputs of the table as its values, and how soft the choice is."""
        logits = self.table.logits(inputs, self.softness) if self.softness else None
        return Quantized(inputs, values[..., None, :], self.table.codes(values), logits)

    def values_of(self, codes: Codes) -> Array:
        """The map that codes stand for, `[..., height, width, channels]`."""
        return self.table(codes)

    def prior(self, examples: Size, height: int, width: int) -> UniformCodes:
        """All codes alike, over maps of that height and width."""
        shape = (examples, height, width, 1)
        return UniformCodes(Partial(self.table), self.size, shape)


class FiniteQuantizer(FixedQuantizer):
    """Each channel rounded to one of a few values [Mentzer et al. 2023].

    Nothing is learned here, and no loss is needed. One that asks for even use of the
    codes takes the soft choice of `softness`, in steps between values.
    """

    values: tuple[int, ...] = (8, 5, 5, 5)

    @property
    def table(self) -> Grid:
        """The codes and their values."""
        return Grid(tuple(self.values))

    @property
    def channels(self) -> int:
        """Numbers that it reads of a position."""
        return len(self.values)

    def __call__(self, h: Map) -> Quantized:
        inputs = self.table.bounded(self.spread(h))
        values = jax.lax.stop_gradient(self.table.rounded(inputs))
        return self.chosen(inputs, values)


class SignQuantizer(FixedQuantizer):
    """The signs of channels are the bits of a code: no look-up [Yu et al. 2023]."""

    channels: int = 9

    @property
    def table(self) -> Signs:
        """The codes and their values."""
        return Signs(self.channels)

    def __call__(self, h: Map) -> Quantized:
        h = self.spread(h)
        return self.chosen(h, self.table.rounded(h))


class MapEncoder(nn.Module):
    """A body's map of features, and one linear layer to `channels` at each position."""

    body: nn.Module
    channels: int

    @nn.compact
    def __call__(self, batch: Batch) -> Map:
        return nn.Dense(self.channels)(self.body(batch["x"]))


class QuantizedVAE(LatentModel):
    """p(x | z) of a map of codes, all of which are alike a priori.

    q(z | x) is certain of one map, so that KL(q || p) is log size nats for each
    position and level, whatever x is, and log p(x | z) less that is a lower bound of
    log p(x) [van den Oord et al. 2017, sec. 3.1].
    """

    encoder: nn.Module
    quantizer: Any
    decoder: nn.Module
    sides: tuple[int, int]
    """Height and width of the map of codes."""

    def posterior(self, batch: Batch) -> Distribution:
        return self.quantizer(self.encoder(batch))

    def prior(self, batch: Batch) -> Distribution:
        return self.quantizer.prior(batch["x"].shape[0], *self.sides)

    def likelihood(self, z: Array, batch: Batch) -> Distribution:
        return self.decoder(z, batch)

    def values_of(self, codes: Codes) -> Array:
        """The map that `decode` takes, `[..., height, width, channels]`, of codes."""
        return self.quantizer.values_of(codes)

    def start_codes(self, batch: Batch, share: float) -> tuple[str, ...]:
        """Begins the quantizer with what the encoder gives; the part that changed."""
        self.quantizer.start(self.encoder(batch), share)
        return ("quantizer",)
