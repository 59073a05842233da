"""Second stages: models of what a first stage made of data, or of the data itself."""

import dataclasses
import math
from collections.abc import Mapping
from functools import partial
from typing import Literal

import flax.linen as nn

from vaejax import metrics, objectives
from vaejax.configs import Data, Training, at_least
from vaejax.data.kinds import by_kind
from vaejax.errors import InputError, require
from vaejax.experiment import Experiment, Metric, Player
from vaejax.inference.ode import MethodName, OdePath
from vaejax.models import CodePrior, RectifiedFlow
from vaejax.models import likelihoods as li
from vaejax.nn.transformer import CausalTransformer
from vaejax.nn.velocity import VelocityMLP, VelocityUNet
from vaejax.objectives.flow_matching import TimesName
from vaejax.presets import arena
from vaejax.presets import assemble as a
from vaejax.presets.signature import preset

__all__ = ["code_transformer", "latent_flow"]

UNITS: Mapping[str, tuple[float, float]] = {
    "image": (0.5, 0.5),
    "table": (0.0, 1.0),
    "latent map": (0.0, 1.0),
}
"""Shift and spread that give x of a kind about mean 0 and deviation 1: levels in [0, 1]
become [-1, 1], and columns and channels of latents are standardized already, by the
training split."""
BODIES = {"image": "unet", "latent map": "unet", "table": "mlp"}
"""The body that auto stands for."""


@dataclasses.dataclass(frozen=True)
class VelocityNetwork:
    """The network of a flow's velocity."""

    body: Literal["auto", "mlp", "unet"] = "auto"
    """Dense layers, or residual blocks over maps with links between equal sizes; auto:
    unet for images and maps, mlp for tables."""
    hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of the dense layers of mlp."""
    channels: tuple[int, ...] = (32, 64)
    """Channels of each level of unet; a level has half the sides of the one before."""
    blocks: int = 1
    """Residual blocks of each level of unet, down and up."""
    attention: bool = True
    """Attention between all places of the smallest maps of unet."""
    dropout: float = 0.0
    """Share of features dropped in training."""

    def __post_init__(self) -> None:
        at_least(1, self, "blocks")
        for name in ("hidden", "channels"):
            value = vars(self)[name]
            fits = bool(value) and min(value) >= 1
            require(fits, name, value, "one width or more, of at least 1")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "in [0, 1)")


@dataclasses.dataclass(frozen=True)
class CodeNetwork:
    """The Transformer over codes."""

    layers: int = 4
    """Blocks, each of attention and two dense layers."""
    width: int = 256
    """Features of a place; --heads must divide them."""
    heads: int = 4
    """Heads of the attention."""
    dropout: float = 0.1
    """Share of features dropped in training."""
    top_k: int = 0
    """Codes, the most probable at a place, that samples are drawn from; 0: all."""

    def __post_init__(self) -> None:
        at_least(1, self, "layers", "width", "heads")
        at_least(0, self, "top_k")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "in [0, 1)")
        divides = self.width % self.heads == 0
        require(divides, "heads", self.heads, f"a divisor of --width {self.width}")


@preset(tiny={"layers": 1, "width": 8, "heads": 2, "labels": True})
def code_transformer(
    *,
    data: Data = Data(binarize="none"),
    network: CodeNetwork = CodeNetwork(),
    labels: bool = False,
    training: Training = Training(
        epochs=50, learning_rate=3e-4, decay="cosine", clip=1.0
    ),
) -> Experiment:
    """A causal Transformer over the codes of a quantized autoencoder.

    [van den Oord et al. 2017, sec. 3.3; Esser et al. 2021, sec. 3.2] The data are codes
    of a trained run, `--dataset latents:RUN`, in raster order, levels innermost. Its
    likelihood is exact: `nll` in nats of an example's codes, and `bits_per_dim` of one
    code, log2 K where all K are equally probable. Samples are decoded by that run.

    Args:
      labels: condition on the label, so that samples are of a class.
    """
    view = arena.open_generator_data(data, li.OfCodes())
    spec = view.dataset.spec
    most = f"at most {spec.levels}, as many as there are codes"
    require(network.top_k <= spec.levels, "top_k", network.top_k, most)
    transformer = CausalTransformer(
        spec.levels,
        math.prod(spec.shape),
        spec.shape[-1],
        width=network.width,
        depth=network.layers,
        heads=network.heads,
        dropout=network.dropout,
    )
    condition = a.label(view.dataset) if labels else None
    folds = {"codes": metrics.exact_likelihood(), "count": metrics.count()}
    return a.one_player(
        CodePrior(transformer, condition, network.top_k),
        objectives.elbo,
        view,
        training,
        lambda samples: folds,
        selection=lambda values: values["nll"],
    )


@dataclasses.dataclass(frozen=True)
class FlowPaths:
    """The paths of a flow: how they are trained, followed and weighed."""

    times: TimesName = "uniform"
    """Times in training: uniform, or logit_normal, more of the middle."""
    ode_steps: int = 50
    """Steps of the differential equation for a sample."""
    ode_method: MethodName = "heun"
    """euler, with one evaluation a step and an error of the order of a step; heun, with
    two and an error of the order of its square."""
    null_rate: float = 0.1
    """Share of labels that are hidden in training, for --guidance; with --labels."""
    guidance: float = 1.0
    """Weight of the label in samples: 1 is p(x | y), more are more typical of y and
    less diverse, 0 ignores it; with --labels."""
    density_steps: int = 0
    """Steps of the differential equation for log p(x) in evaluations; 0: no
    likelihood is computed."""
    probes: int = 0
    """Random signs that estimate the divergence for log p(x); 0: it is exact, at the
    cost of an evaluation for each entry of x."""

    def __post_init__(self) -> None:
        at_least(1, self, "ode_steps")
        at_least(0, self, "guidance")
        require(0 <= self.null_rate < 1, "null_rate", self.null_rate, "in [0, 1)")
        steps = self.density_steps
        require(steps == 0 or steps >= 2, "density_steps", steps, "0, or at least 2")
        probes = self.probes
        require(probes == 0 or probes >= 2, "probes", probes, "0, or at least 2")
        if probes and not steps:
            raise InputError("--probes is of --density-steps: set these, too")


@preset(tiny={"channels": (4, 8), "labels": True, "ode_steps": 2})
def latent_flow(
    *,
    data: Data = Data(binarize="none"),
    network: VelocityNetwork = VelocityNetwork(),
    flow: FlowPaths = FlowPaths(),
    labels: bool = False,
    training: Training = Training(
        epochs=100, learning_rate=1e-3, decay="cosine", ema=0.999
    ),
) -> Experiment:
    """A rectified flow from noise to data, by flow matching.

    [Lipman et al. 2023; Liu et al. 2023; guidance: Ho & Salimans 2022] Of latents of a
    trained run, `--dataset latents:RUN` (latent diffusion: Rombach et al. 2022), the
    means of q(z | x) in standard deviations from those of the training split, or of
    pictures and tables. Its loss bounds no likelihood; log p(x) is by its differential
    equation, with --density-steps.

    Args:
      labels: condition on the label, so that samples are of a class.
    """
    view = arena.open_generator_data(data, li.OfFlow())
    shift, spread = by_kind(view.dataset.spec, UNITS, "latent_flow")
    if not labels and flow.guidance != 1:
        raise InputError("--guidance is towards a label: set --labels, too")
    model = RectifiedFlow(
        network=velocity_network(network, view),
        condition=a.label(view.dataset) if labels else None,
        steps=flow.ode_steps,
        method=flow.ode_method,
        guidance=flow.guidance,
        shift=shift,
        spread=spread,
    )
    objective = partial(
        objectives.flow_matching,
        times=flow.times,
        null_rate=flow.null_rate if labels else 0.0,
    )
    optimizer = a.adam(training, arena.total_steps(view, training))
    players = {"flow": Player(objective, optimizer, ("network",))}
    folds = {"velocity": metrics.velocity_error(), "count": metrics.count()}
    made = arena.game(model, players, view, training, folds, "velocity_error")
    densities = density_metrics(flow, view)
    if not densities:
        return made
    return dataclasses.replace(
        made, metrics=lambda samples: folds | (densities if samples else {})
    )


def velocity_network(network: VelocityNetwork, view: a.View) -> nn.Module:
    """The network by its name; InputError where it is none for the data."""
    spec = view.dataset.spec
    body = network.body
    if body == "auto":
        body = by_kind(spec, BODIES, "--body auto")
    if body == "mlp":
        return VelocityMLP(network.hidden, dropout=network.dropout)
    maps = {kind: None for kind, best in BODIES.items() if best == "unet"}
    by_kind(spec, maps, "--body unet")
    return VelocityUNet(
        network.channels, network.blocks, network.attention, network.dropout
    )


def density_metrics(flow: FlowPaths, view: a.View) -> dict[str, Metric]:
    """log p(x) by the differential equation, where the settings ask for it.

    InputError where x are levels, of which a density means nothing.
    """
    if not flow.density_steps:
        return {}
    if view.preprocess.values in ("binary", "grey"):
        raise InputError(
            "--density-steps is for densities, and pictures are of levels: set "
            "--dequantize, too"
        )
    path = OdePath(flow.density_steps, flow.ode_method)
    log_bin = view.preprocess.log_bin
    fold = metrics.ode_likelihood(path, probes=flow.probes, log_bin=log_bin)
    return {"density": fold}
