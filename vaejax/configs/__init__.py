"""The groups of settings that presets share, each field with its meaning."""

import dataclasses
from typing import Annotated, Literal

import tyro

from vaejax.configs.checks import at_least
from vaejax.configs.labels import Labels
from vaejax.configs.latents import Latents, LatentSize
from vaejax.data import Dataset
from vaejax.data.dialect import Csv, Decimal, Header
from vaejax.data.holes import Hide
from vaejax.data.reading import Reading, Stream
from vaejax.errors import InputError, require
from vaejax.models.likelihoods import LikelihoodName
from vaejax.nn.layers import PrecisionName

__all__ = [
    "Activation",
    "Body",
    "Critic",
    "Data",
    "DatasetName",
    "Labels",
    "LatentSize",
    "Latents",
    "Network",
    "Parallel",
    "Training",
    "Weight",
    "at_least",
]

# A name on the command line; from Python also a Dataset.
DatasetName = Annotated[
    str | Dataset,
    tyro.conf.arg(
        constructor=str,
        metavar="NAME",
        help_behavior_hint=lambda default: "(default: " + default.strip("[']") + ")",
    ),
]
Parallel = Literal["jit", "shard_map", "pmap"]
Body = Literal["mlp", "conv", "residual", "linear", "linear_decoder"]
Activation = Literal["auto", "relu", "leaky_relu", "tanh", "silu", "softplus", "gated"]


@dataclasses.dataclass(frozen=True)
class Data:
    """The data to train on."""

    dataset: DatasetName = "mnist_5k"
    """mnist_5k, digits, breast_cancer, sprites, another TFDS name; npz:PATH, csv:PATH,
    folder:PATH (pictures, in sub-folders by label), hf:PATH or hf:NAME, or latents:RUN
    (codes or latents of a trained run), draws:RUN (draws of its q(z | x), each time
    others)."""
    validation: float = 0.0
    """Fraction of the training split held out for validation; 2 or more: the number
    of its last examples."""
    binarize: Literal["auto", "dynamic", "dynamic_train", "static", "none"] = "auto"
    """Binarize grey images at each access (auto, for bernoulli; dynamic_train: only
    those of training, the others once, by NumPy's seed 777), once, or never."""
    dequantize: bool = False
    """Add uniform noise within a grey level, so that densities bound probabilities."""
    counts: tuple[str, ...] = ()
    """Columns of a csv:, npz: or hf: table that are counts: names, g*, or all."""
    categories: tuple[str, ...] = ()
    """Columns of a csv: table whose numbers stand for categories."""
    missing: tuple[str, ...] = ()
    """Texts that mark holes in a csv: table, besides empty cells (NA in numbers)."""
    separator: str = "auto"
    """Separator in a csv: file: one character, tab, comma, semicolon or pipe."""
    decimal: Decimal = "auto"
    """Decimal sign of a csv: file; the other one may group digits by three."""
    encoding: str = "auto"
    """Encoding of a csv: file: utf-8, utf-16, latin-1, cp1252, ..."""
    header: Header = "first"
    """Line of a csv: file that names the columns; none names them column_1, ..."""
    ignore: tuple[str, ...] = ()
    """Columns of a csv: table to ignore; impute.py copies them unchanged."""
    hide: Hide = "none"
    """Entries to hide and keep the truth of: a process (tables), a shape (images)."""
    hide_rate: float = 0.5
    """Share to hide of those entries that the pattern can hide."""
    hide_columns: int = 0
    """Number of first columns that mnar and above_mean hide, mar does not; 0: half."""
    hide_seed: int = 0
    """Seed of the hidden entries."""
    stream: Stream = "auto"
    """Decode images during training; auto: if they take more than 1 GiB together."""
    image_size: int = 0
    """Side in pixels to resize the central square of images to; 0: do not resize."""
    random_crop: int = 0
    """Pixels to add to the side before a random crop in training; images stream."""
    random_flip: bool = False
    """Flip half of the training images left to right; images stream."""
    skip_corrupt: bool = False
    """Replace a record that cannot be decoded by the next one."""

    @property
    def csv(self) -> Csv:
        """The settings of reading a table."""
        return Csv(
            self.separator,
            self.decimal,
            self.encoding,
            self.header,
            tuple(self.missing),
            tuple(self.ignore),
        )

    @property
    def reading(self) -> Reading:
        """The settings of reading images."""
        return Reading(
            self.stream,
            self.image_size,
            self.random_crop,
            self.random_flip,
            self.skip_corrupt,
        )


@dataclasses.dataclass(frozen=True)
class Network:
    """The networks and the likelihood of the model."""

    body: Body = "mlp"
    """Architecture of encoder and decoder."""
    activation: Activation = "auto"
    """Activation function; auto: silu for residual bodies, relu for the others; gated:
    a sigmoid of as many other units multiplies each unit of mlp bodies."""
    hidden: tuple[int, ...] = (512,)
    """Widths of the encoder's dense layers, mirrored in the decoder."""
    channels: tuple[int, ...] = (32, 64)
    """Channels of each stage of conv and residual bodies; a stage halves the image."""
    blocks: int = 2
    """Residual blocks in each stage of a residual body."""
    remat: bool = False
    """Recompute residual blocks for the gradient: less memory, more work."""
    likelihood: LikelihoodName = "auto"
    """p(x | z); auto: bernoulli of nearly binary images, logistic_mixture of others,
    gaussian of tables."""
    sigma: float = 1.0
    """Standard deviation of gaussian_fixed, in the model's units (images: [0, 1])."""
    count_likelihood: Literal["poisson", "negative_binomial"] = "poisson"
    """p(x | z) of counts; negative_binomial learns a dispersion for each column."""
    library_size: Literal["none", "observed"] = "none"
    """observed: a softmax divides each row's observed total among its counts."""

    def __post_init__(self) -> None:
        widths = bool(self.hidden) and min(self.hidden) >= 1
        require(self.sigma > 0, "sigma", self.sigma, "above 0")
        require(widths, "hidden", self.hidden, "widths of at least 1")
        widths = bool(self.channels) and min(self.channels) >= 1
        require(widths, "channels", self.channels, "widths of at least 1")
        at_least(0, self, "blocks")
        require(self.blocks <= 1000, "blocks", self.blocks, "at most 1000")


@dataclasses.dataclass(frozen=True)
class Weight:
    """Weight of the KL term and its schedule."""

    beta: float = 1.0
    """Weight of the KL term."""
    schedule: Literal["constant", "linear", "cosine", "cyclical"] = "constant"
    """Schedule of beta."""
    warm_up: float = 0.0
    """Epochs of the warm-up or of one cycle."""

    def __post_init__(self) -> None:
        require(self.beta >= 0, "beta", self.beta, "at least 0")
        require(self.warm_up >= 0, "warm_up", self.warm_up, "at least 0")
        if self.schedule != "constant" and self.warm_up == 0:
            raise InputError(
                f"--schedule {self.schedule} needs a length: set --warm-up EPOCHS"
            )


@dataclasses.dataclass(frozen=True)
class Critic:
    """The critic and its adversarial loss."""

    loss: Literal["logistic", "minimax", "hinge", "wasserstein", "least_squares"] = (
        "logistic"
    )
    """Adversarial loss of critic and generator; logistic is non-saturating."""
    critic_body: Literal["encoder", "patch"] = "encoder"
    """Architecture of a critic of images: that of the encoder, or patch, which scores
    patches of an image (PatchGAN)."""
    critic_hidden: tuple[int, ...] = ()
    """Widths of the critic's dense layers; default: those of the encoder."""
    critic_channels: int = 64
    """Channels of the first layer of --critic-body patch; they double to 8 times."""
    critic_layers: int = 3
    """Layers of --critic-body patch that halve the image; one more keeps its size."""
    critic_norm: Literal["none", "spectral", "batch", "group"] = "none"
    """Normalization of the critic's layers; spectral divides kernels by their largest
    singular value.
    """
    gradient_penalty: float = 0.0
    """Weight of the penalty (|gradient| - 1)^2 between real and fake; WGAN-GP: 10."""
    r1: float = 0.0
    """Weight of the penalty |gradient|^2 / 2 at real examples (R1)."""
    critic_moves: int = 1
    """Steps of the critic for each step of its opponents."""
    critic_learning_rate: float = 0.0
    """Learning rate of the critic; 0: that of the other players."""
    beta1: float = 0.5
    """Decay of Adam's first moment, for all players."""
    beta2: float = 0.999
    """Decay of Adam's second moment, for all players."""

    def __post_init__(self) -> None:
        at_least(0, self, "gradient_penalty", "r1", "critic_learning_rate")
        widths = min(self.critic_hidden, default=1) >= 1
        require(widths, "critic_hidden", self.critic_hidden, "widths of at least 1")
        at_least(1, self, "critic_moves", "critic_channels", "critic_layers")
        require(0 <= self.beta1 < 1, "beta1", self.beta1, "in [0, 1)")
        require(0 <= self.beta2 < 1, "beta2", self.beta2, "in [0, 1)")
        if self.critic_norm == "group" and self.critic_body != "patch":
            raise InputError("--critic-norm group needs --critic-body patch")
        if (self.gradient_penalty or self.r1) and self.critic_norm == "batch":
            raise InputError(
                "--gradient-penalty and --r1 are of single examples, which "
                "--critic-norm batch mixes: set them to 0 or choose another norm"
            )


@dataclasses.dataclass(frozen=True)
class Training:
    """Optimization, devices, and when to log, evaluate and save."""

    epochs: int = 30
    """Passes over the training split; more than before prolong a run, and from there on
    --decay cosine, the one schedule that depends on it, is that of the new length.
    --decay stages ends stages after 1, 4, 13, 40, 121, 364, 1093 and 3280."""
    batch_size: int = 128
    """Examples per step over all devices; an incomplete last batch is dropped."""
    learning_rate: float = 1e-3
    """Learning rate of Adam."""
    decay: Literal["constant", "cosine", "stages"] = "constant"
    """Schedule of the learning rate; cosine falls to zero at the end, stages to a tenth
    in eight stages, of which each takes three times the epochs of the one before."""
    clip: float = 0.0
    """Clip each player's gradient to this global norm; 0: no clipping."""
    skip: float = 0.0
    """Skip a player's step where its gradient has a larger global norm than this, or
    one that is not finite, and count these steps; 0: never."""
    ema: float = 0.0
    """Decay of the moving average of parameters, used in evaluation; 0: off."""
    seed: int = 0
    """Seed of parameters, data order and all noise."""
    parallel: Parallel = "jit"
    """How devices share a batch; with jit, noise does not depend on their number."""
    precision: PrecisionName = "f32"
    """Precision of hidden layers in training; everything else is float32."""
    fsdp: int = 1
    """Devices that share one copy of the state, for large models."""
    patience: int = 0
    """Stop after this many evaluations, after a warm-up, no better on validation data
    than the best: of `vaegan*`, `cvaegan*` and `ali` by `mse`, `aae` and autoencoders
    by `distortion`, `classifier` by `cross_entropy`, others by the ELBO or bound; 0:
    never."""
    log_every: int = 0
    """Steps between lines of the log, compiled as one call where that takes no more
    than seconds; 0: an epoch."""
    evaluate_every: int = 5
    """Epochs between evaluations (at the next line of the log)."""
    checkpoint_every: int = 2000
    """Steps between checkpoints (at the next line of the log)."""

    def __post_init__(self) -> None:
        at_least(1, self, "epochs", "batch_size", "evaluate_every", "checkpoint_every")
        at_least(1, self, "fsdp")
        if self.fsdp > 1 and self.parallel != "jit":
            raise InputError(f"--fsdp is not of --parallel {self.parallel}: use jit")
        at_least(0, self, "clip", "skip", "patience", "log_every", "seed")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        require(0 <= self.ema < 1, "ema", self.ema, "in [0, 1)")
