"""Bodies of encoders and decoders, by their settings."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import flax.linen as nn

from vaejax.configs import Network, Training
from vaejax.data import Dataset
from vaejax.data.kinds import require_images
from vaejax.errors import InputError
from vaejax.nn import networks as net
from vaejax.nn.layers import Activation
from vaejax.presets.choice import pick

ACTIVATIONS: Mapping[str, Activation] = {
    "relu": nn.relu,
    "leaky_relu": nn.leaky_relu,
    "tanh": nn.tanh,
    "silu": nn.silu,
    "softplus": nn.softplus,
}


DENSE = Network(hidden=(400, 200), activation="silu")
"""The networks of `vae` and `cvae` by default, chosen on 4,000 digits."""
LONG = Training(epochs=100, learning_rate=2e-3, decay="cosine")
"""Their training by default."""


class Bodies(NamedTuple):
    """An encoder body, and a decoder body for a given output shape."""

    encoder: nn.Module
    decoder: Callable[[Sequence[int]], nn.Module]


def mlp_bodies(hidden: Sequence[int], activation: str, dropout: float = 0.0) -> Bodies:
    """Dense layers `hidden`, mirrored in the decoder; none gives linear bodies."""
    encoder = dense_stack(hidden, activation, dropout)
    decoder = dense_stack(hidden[::-1], activation, dropout)
    return Bodies(
        net.FlatEncoder(encoder),
        lambda shape: net.FlatDecoder(decoder, tuple(shape)),
    )


def dense_stack(
    hidden: Sequence[int], activation: str, dropout: float = 0.0
) -> net.MLP:
    """Dense layers with an activation by name, or gated ones."""
    gated = activation == "gated"
    act = nn.relu if gated else pick("activation", activation, ACTIVATIONS)
    return net.MLP(tuple(hidden), act, dropout, gated=gated)


def dense_layers(hidden: Sequence[int], network: Network) -> net.MLP:
    """Dense layers between blocks of latents, with the activation of the settings."""
    return dense_stack(hidden, chosen_activation(network))


def chosen_activation(network: Network) -> str:
    """The activation by name; auto depends on the body."""
    if network.activation != "auto":
        return network.activation
    return "silu" if network.body == "residual" else "relu"


def conv_bodies(
    channels: Sequence[int],
    activation: str,
    norm: str,
    blocks: int,
    hidden: int,
    remat: bool = False,
) -> Bodies:
    """Convolutions that halve the image, `blocks` residual blocks in each stage."""
    if activation == "gated":
        raise InputError("--activation gated is of --body mlp: choose another of them")
    act = pick("activation", activation, ACTIVATIONS)
    same = (tuple(channels), hidden, blocks, norm, act, remat)
    return Bodies(
        net.ConvEncoder(*same), lambda shape: net.ConvDecoder(tuple(shape), *same)
    )


def build_bodies(network: Network, data: Dataset) -> Bodies:
    """The bodies of the generic presets, by name."""
    body, hidden = network.body, network.hidden
    if body in ("conv", "residual"):
        require_images(data.spec, f"--body {body}", ": use --body mlp")
    act = chosen_activation(network)
    linear = mlp_bodies((), act)
    known: Mapping[str, Callable[[], Bodies]] = {
        "mlp": lambda: mlp_bodies(hidden, act),
        "linear": lambda: linear,
        "linear_decoder": lambda: linear._replace(
            encoder=mlp_bodies(hidden, act).encoder
        ),
        "conv": lambda: conv_bodies(network.channels, act, "none", 0, hidden[-1]),
        "residual": lambda: conv_bodies(
            network.channels, act, "group", network.blocks, hidden[-1], network.remat
        ),
    }
    return pick("body", body, known)()
