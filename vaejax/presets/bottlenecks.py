"""Bottlenecks of codes: their settings, and what these build."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp

from vaejax import objectives
from vaejax.configs import at_least
from vaejax.errors import InputError, require
from vaejax.experiment import Experiment, TrainState
from vaejax.models import FiniteQuantizer, SignQuantizer, VectorQuantizer
from vaejax.presets.choice import pick
from vaejax.types import Objective

BottleneckName = Literal["vq", "rvq", "fsq", "lfq"]
CodeStart = Literal["random", "kmeans", "whitened"]
MOST_CODES = 2**24
"""Beyond this many codes nobody counts how often each is used."""
ENTROPY_OF_SIGNS = 0.1
POINTS_OF_A_CODE, MOST_IMAGES = 16, 2048


@dataclasses.dataclass(frozen=True)
class CodeBottleneck:
    """The codes of a quantized autoencoder."""

    bottleneck: BottleneckName = "vq"
    """Learned codes (vq), such codes of what others left over (rvq), rounded channels
    (fsq), or signs of channels (lfq)."""
    codes: int = 512
    """Number of codes of vq, of each level of rvq, and of lfq (a power of 2)."""
    code_channels: int = 64
    """Numbers that a code of vq or rvq stands for."""
    code_levels: int = 0
    """Codes of each position in rvq; 0: four."""
    channel_values: tuple[int, ...] = ()
    """Number of values of each channel of fsq; their product is the number of codes.
    Default: 8 5 5 5."""
    codebook: Literal["gradient", "ema"] = "gradient"
    """How codes of vq and rvq are learned; ema: as moving averages of what is nearest
    to them."""
    codebook_decay: float = 0.99
    """Decay of these averages, for each step."""
    codebook_weight: float = 1.0
    """Weight of the loss that draws codes to the encoder, with --codebook gradient."""
    normalized_codes: bool = False
    """Divide codes of vq, and what is quantized, by their length."""
    code_start: CodeStart = "random"
    """How codes begin. kmeans: those of vq and rvq as centres of the first encodings;
    whitened: channels of fsq and lfq are uncorrelated over these."""
    revive: float = 0.0
    """Share of the mean use of a code below which it is replaced by an encoding of the
    batch, with --codebook ema; 0: never."""
    commitment: float = 0.25
    """Weight of the loss that keeps the encoder near its codes, not of fsq."""
    code_entropy: float = 0.0
    """Weight of the loss of unclear and of unused choices of codes; 0: 0.1 of lfq, none
    of others."""
    softness: float = 1.0
    """Squared distance at which such a choice is unclear, of fsq in steps from a value
    to the next."""

    def __post_init__(self) -> None:
        at_least(1, self, "codes", "code_channels")
        at_least(0, self, "code_levels", "codebook_weight", "commitment")
        at_least(0, self, "code_entropy", "revive")
        decay, few = self.codebook_decay, min(self.channel_values, default=2) >= 2
        require(0 <= decay < 1, "codebook_decay", decay, "in [0, 1)")
        require(self.revive < 1, "revive", self.revive, "below 1")
        require(self.softness > 0, "softness", self.softness, "above 0")
        require(few, "channel_values", self.channel_values, "of at least 2 values each")
        for name, users in OWNERS.items():
            if self._given(name):
                self._check_user(name.replace("_", "-"), users)
        if self.code_start in STARTS:
            self._check_user(f"code-start {self.code_start}", STARTS[self.code_start])
        self._check_codebook()
        if self._given("softness") and not self.entropy:
            raise InputError("--softness needs --code-entropy above 0")
        require(self.size >= 2, "codes", self.codes, "at least 2")
        small = self.size <= MOST_CODES
        require(small, *self._number, f"at most {MOST_CODES:,} codes")

    def _check_user(self, flag: str, users: Sequence[str]) -> None:
        """InputError where the bottleneck does not read the flag."""
        if self.bottleneck not in users:
            known = " or ".join(users)
            raise InputError(f"--{flag} is only for --bottleneck {known}: choose one")

    def _check_codebook(self) -> None:
        """InputError where a setting is not of how the codebook is learned."""
        for name, kind in (
            ("revive", "ema"),
            ("codebook_decay", "ema"),
            ("codebook_weight", "gradient"),
        ):
            if self._given(name) and self.codebook != kind:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag} needs --codebook {kind}")
        if self.bottleneck == "lfq" and self.codes & (self.codes - 1):
            bits = self.codes.bit_length()
            raise InputError(
                f"--codes {self.codes} is no power of 2, as signs have: choose "
                f"{2 ** (bits - 1)} or {2**bits}"
            )

    def _given(self, name: str) -> bool:
        """Whether a setting is another than by default."""
        return vars(self)[name] != getattr(type(self), name)

    @property
    def _number(self) -> tuple[str, Any]:
        """The setting that says how many codes there are."""
        if self.bottleneck == "fsq":
            return "channel_values", self.values
        return "codes", self.codes

    @property
    def values(self) -> tuple[int, ...]:
        """Values of each channel of fsq."""
        return tuple(self.channel_values) or (8, 5, 5, 5)

    @property
    def size(self) -> int:
        """Number of codes of a level."""
        return math.prod(self.values) if self.bottleneck == "fsq" else self.codes

    @property
    def entropy(self) -> float | None:
        """Weight of the loss of choices; None: there is none."""
        default = ENTROPY_OF_SIGNS if self.bottleneck == "lfq" else None
        return self.code_entropy or default


LEARNED = ("vq", "rvq")
OWNERS: Mapping[str, tuple[str, ...]] = {
    "codes": ("vq", "rvq", "lfq"),
    "code_channels": LEARNED,
    "code_levels": ("rvq",),
    "channel_values": ("fsq",),
    "codebook": LEARNED,
    "codebook_decay": LEARNED,
    "codebook_weight": LEARNED,
    "normalized_codes": ("vq",),
    "revive": LEARNED,
    "commitment": ("vq", "rvq", "lfq"),
}
"""Settings of codes, and the bottlenecks that read them."""
STARTS: Mapping[CodeStart, tuple[BottleneckName, ...]] = {
    "kmeans": LEARNED,
    "whitened": ("fsq", "lfq"),
}
"""Ways in which codes begin with encodings, and the bottlenecks that have them."""


def build_quantizer(of: CodeBottleneck) -> Any:
    """The quantizer by its settings."""
    softness = of.softness if of.entropy else 0.0
    whitened = of.code_start == "whitened"

    def learned(levels: int) -> VectorQuantizer:
        return VectorQuantizer(
            of.codes,
            of.code_channels,
            levels,
            decay=of.codebook_decay if of.codebook == "ema" else None,
            revive=of.revive,
            normalized=of.normalized_codes,
            softness=softness,
        )

    known: Mapping[str, Callable[[], Any]] = {
        "vq": lambda: learned(1),
        "rvq": lambda: learned(of.code_levels or 4),
        "fsq": lambda: FiniteQuantizer(of.values, softness=softness, whitened=whitened),
        "lfq": lambda: SignQuantizer(
            of.codes.bit_length() - 1, softness=softness, whitened=whitened
        ),
    }
    return pick("bottleneck", of.bottleneck, known)()


def code_objective(of: CodeBottleneck) -> Objective:
    """The loss by the settings of codes: finite scalars need none of their own."""
    learned = of.bottleneck in LEARNED and of.codebook == "gradient"
    return partial(
        objectives.quantization,
        commitment=None if of.bottleneck == "fsq" else of.commitment,
        codebook=of.codebook_weight if learned else None,
        entropy=of.entropy,
    )


def with_first_codes(
    experiment: Experiment, of: CodeBottleneck, sides: tuple[int, int]
) -> Experiment:
    """The experiment whose codes begin as the settings say.

    `sides` are those of the map of codes, of several the least.

    Raises:
      InputError: there are fewer encodings than codes to begin with.
    """
    if of.code_start == "random":
        return experiment
    positions = math.prod(sides)
    wanted = max(-(-POINTS_OF_A_CODE * of.size // positions), 1)
    size = min(experiment.dataset.spec.sizes["train"], wanted, MOST_IMAGES)
    if of.code_start == "kmeans" and size * positions < of.size:
        raise InputError(
            f"--code-start kmeans has {size * positions:,} encodings for {of.size:,} "
            "codes: choose fewer codes, or random"
        )

    def begin(state: TrainState) -> TrainState:
        return started_codes(experiment, state, size)

    return dataclasses.replace(experiment, begin=begin)


def started_codes(experiment: Experiment, state: TrainState, size: int) -> TrainState:
    """The state whose quantizers begin with encodings of the first `size` images."""
    split = experiment.dataset.split("train")
    raw = {name: jnp.asarray(array[:size]) for name, array in split.items()}
    raw |= {"index": jnp.arange(size)}
    key = jax.random.key(experiment.training.seed)
    batch = experiment.preprocess.apply(raw, key)
    share = experiment.training.batch_size / size
    variables = {"params": state.params, **state.stats}
    changed, moved = experiment.model.apply(
        variables, batch, share, method="start_codes", mutable=True
    )

    def taken(name: str, parts: dict[str, Any]) -> dict[str, Any]:
        """Variables of what changed, where it has some in this collection."""
        return parts | {p: moved[name][p] for p in parts if p in changed}

    params = taken("params", state.params)
    copies = {p: jax.tree.map(jnp.copy, params[p]) for p in state.ema}
    stats = {name: taken(name, parts) for name, parts in state.stats.items()}
    return state._replace(params=params, ema=copies, stats=stats)
