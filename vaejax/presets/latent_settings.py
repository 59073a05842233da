"""The settings of latent autoencoders."""

import dataclasses
import math
from typing import Literal

from vaejax.configs import at_least
from vaejax.errors import InputError, require
from vaejax.models.likelihoods import LikelihoodName
from vaejax.nn.feature_blocks import MapSizes
from vaejax.presets.bottlenecks import CodeBottleneck


@dataclasses.dataclass(frozen=True)
class MapNetwork:
    """The networks of a latent autoencoder, residual blocks over maps."""

    width: int = 16
    """Channels of the first level."""
    multipliers: tuple[int, ...] = (1, 2, 4)
    """Channels of each level, in units of --width; a level has half the sides of the
    one before, so that four levels make 8 x 8 pixels one place of the latent map."""
    blocks: int = 1
    """Residual blocks of each level of the encoder; the decoder has one more."""
    attention: tuple[int, ...] = ()
    """Heights of maps whose blocks attention follows; the smallest have it anyway."""
    remat: bool = False
    """Recompute residual blocks for the gradient: less memory, more work."""

    def __post_init__(self) -> None:
        fits = bool(self.multipliers) and min(self.multipliers) >= 1
        at_least(1, self, "width", "blocks")
        require(fits, "multipliers", self.multipliers, "of at least 1 each")

    def sizes(self, height: int) -> MapSizes:
        """The networks of images of that height.

        InputError where no map has a height that is to have attention.
        """
        heights = [height >> level for level in range(len(self.multipliers))]
        for wanted in self.attention:
            if wanted not in heights:
                known = ", ".join(map(str, heights))
                raise InputError(
                    f"--attention {wanted}: maps are {known} high: choose one of these"
                )
        return MapSizes(
            widths=tuple(self.width * times for times in self.multipliers),
            blocks=self.blocks,
            attended=tuple(n for n, h in enumerate(heights) if h in self.attention),
            groups=math.gcd(32, max(self.width // 4, 1)),
            remat=self.remat,
        )


@dataclasses.dataclass(frozen=True)
class AnyBottleneck(CodeBottleneck):
    """The latents of a latent autoencoder: numbers, or codes."""

    bottleneck: Literal["kl", "vq", "rvq", "fsq", "lfq"] = "kl"  # pyright: ignore
    """Gaussian latents (kl); learned codes (vq), such codes of what others left over
    (rvq), rounded channels (fsq), or signs of channels (lfq)."""
    latent_channels: int = 4
    """Numbers at each place of the map, with kl."""
    kl_weight: float = 1e-6
    """Weight of the KL term in nats per example, with kl."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, self, "latent_channels")
        at_least(0, self, "kl_weight")
        for name in ("latent_channels", "kl_weight"):
            if self._given(name) and self.bottleneck != "kl":
                flag = name.replace("_", "-")
                raise InputError(f"--{flag} is only for --bottleneck kl: choose it")


@dataclasses.dataclass(frozen=True)
class Fidelity:
    """The error of reconstructions."""

    reconstruction: Literal["l1", "l2", LikelihoodName] = "l1"
    """Absolute or squared errors of pixels in [-1, 1], summed; or a likelihood."""
    perceptual: str = ""
    """Run of a classifier of such images, whose features are compared, too."""
    lpips: str = ""
    """Folder of weights of LPIPS, to compare features of VGG16 in place of these."""
    perceptual_weight: float = 1.0
    """Weight of that distance, which is added for each pixel and channel."""

    def __post_init__(self) -> None:
        at_least(0, self, "perceptual_weight")
        given = self.perceptual_weight != type(self).perceptual_weight
        if given and not (self.perceptual or self.lpips):
            raise InputError("--perceptual-weight needs --perceptual or --lpips")

    @property
    def features(self) -> str:
        """The setting that names the frozen network; else empty."""
        return "perceptual" if self.perceptual else "lpips" if self.lpips else ""


@dataclasses.dataclass(frozen=True)
class Opposed:
    """How much the critic of a latent autoencoder counts, and from when on."""

    adversarial_weight: float = 0.1
    """Weight of the critic; 0: there is none, and with kl and no features this is a
    VAE."""
    adaptive_weight: bool = True
    """Multiply it by the ratio of slopes in the decoder's last layer, of reconstruction
    to critic [Esser et al. 2021]."""
    critic_start: int = 1000
    """Step from which the critic trains."""
    critic_warm_up: int = 100
    """Steps from there in which it does not count yet."""

    def __post_init__(self) -> None:
        at_least(0, self, "adversarial_weight", "critic_start", "critic_warm_up")

    @property
    def counts(self) -> int:
        """The step from which the critic has a weight."""
        return self.critic_start + self.critic_warm_up

    @property
    def absent(self) -> bool:
        """Whether there is no critic; a study's weights are arrays, and have one."""
        weight = self.adversarial_weight
        return isinstance(weight, float | int) and weight == 0
