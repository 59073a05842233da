"""The groups of settings that presets share, each field with its meaning."""

import dataclasses
from typing import Annotated, Literal

import tyro

from vaejax.data import Dataset
from vaejax.data.dialect import Csv, Decimal, Header
from vaejax.data.holes import Hide
from vaejax.data.reading import Reading, Stream
from vaejax.errors import InputError, require

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
Activation = Literal["auto", "relu", "leaky_relu", "tanh", "silu", "softplus"]
LikelihoodName = Literal[
    "auto",
    "bernoulli",
    "continuous_bernoulli",
    "gaussian",
    "gaussian_fixed",
    "gaussian_pixel",
    "gaussian_optimal",
    "laplace",
    "student_t",
    "categorical",
    "logistic_mixture",
]


def at_least(least: int, group: object, *names: str) -> None:
    """InputError where a setting of the group is below `least`."""
    for name in names:
        value = vars(group)[name]
        require(value >= least, name, value, f"at least {least}")


@dataclasses.dataclass(frozen=True)
class Data:
    """What is trained on."""

    dataset: DatasetName = "mnist_5k"
    """mnist_5k, digits, breast_cancer, another TFDS name, npz:PATH or csv:PATH."""
    validation: float = 0.0
    """Fraction of the training split held out for validation."""
    binarize: Literal["auto", "dynamic", "static", "none"] = "auto"
    """Grey images to bits: anew at each access (auto, for bernoulli), once, or not."""
    dequantize: bool = False
    """Add uniform noise within a grey level, so that densities bound probabilities."""
    counts: tuple[str, ...] = ()
    """Columns of a csv: or npz: table that are counts: names, patterns (g*), or all."""
    categories: tuple[str, ...] = ()
    """Columns of a csv: table whose numbers stand for categories."""
    missing: tuple[str, ...] = ()
    """Texts that are holes in a csv: table, beside empty cells; NA in numbers is."""
    separator: str = "auto"
    """Separator in a csv: file: one character, tab, comma, semicolon or pipe."""
    decimal: Decimal = "auto"
    """Decimal sign of a csv: file; the other one may group digits by three."""
    encoding: str = "auto"
    """Encoding of a csv: file: utf-8, utf-16, latin-1, cp1252, ..."""
    header: Header = "first"
    """Line of a csv: file with the names of columns; none calls them column_1, ..."""
    ignore: tuple[str, ...] = ()
    """Columns of a csv: table to leave out; impute.py copies them."""
    hide: Hide = "none"
    """What is hidden, its truth kept; mar, mnar, above_mean: tables; shapes: images."""
    hide_rate: float = 0.5
    """Share that is hidden of what can be."""
    hide_columns: int = 0
    """The first columns, which mnar and above_mean hide and mar spares; 0 is half."""
    hide_seed: int = 0
    """Of what is hidden."""
    stream: Stream = "auto"
    """Decode images in the course of training; auto: if all are above 1 GiB."""
    image_size: int = 0
    """Pixels a side to resize images to, their middle square; 0 resizes none."""
    random_crop: int = 0
    """Crop training images at random, of so many pixels more a side; they stream."""
    random_flip: bool = False
    """Mirror half of the training images, left to right; they stream."""
    skip_corrupt: bool = False
    """Let the next sound record stand for one that cannot be decoded."""

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
    """What the model is built of."""

    body: Body = "mlp"
    """Networks of encoder and decoder."""
    activation: Activation = "auto"
    """Of the networks; auto is silu for residual and relu for the others."""
    hidden: tuple[int, ...] = (512,)
    """Widths of the encoder's dense layers, mirrored in the decoder."""
    channels: tuple[int, ...] = (32, 64)
    """Of the stages of conv and residual bodies, each of which halves the image."""
    blocks: int = 2
    """Residual blocks in each stage of a residual body."""
    remat: bool = False
    """Compute residual blocks anew for the gradient: less memory, more work."""
    latents: int = 20
    """Number of latents."""
    likelihood: LikelihoodName = "auto"
    """p(x | z); auto: bernoulli of nearly binary images, logistic_mixture of others,
    gaussian of tables."""
    sigma: float = 1.0
    """Of gaussian_fixed, in the model's units: images are in [0, 1]."""
    count_likelihood: Literal["poisson", "negative_binomial"] = "poisson"
    """p(x | z) of counts; negative_binomial learns a dispersion for each column."""
    library_size: Literal["none", "observed"] = "none"
    """observed: counts share a row's total by a softmax, given that total."""

    def __post_init__(self) -> None:
        require(self.latents >= 1, "latents", self.latents, "at least 1")
        widths = bool(self.hidden) and min(self.hidden) >= 1
        require(self.sigma > 0, "sigma", self.sigma, "above 0")
        require(widths, "hidden", self.hidden, "widths of at least 1")
        widths = bool(self.channels) and min(self.channels) >= 1
        require(widths, "channels", self.channels, "widths of at least 1")
        at_least(0, self, "blocks")
        require(self.blocks <= 1000, "blocks", self.blocks, "at most 1000")


@dataclasses.dataclass(frozen=True)
class Weight:
    """The weight of the KL term over training."""

    beta: float = 1.0
    """Weight of the KL term."""
    schedule: Literal["constant", "linear", "cosine", "cyclical"] = "constant"
    """Of beta over training."""
    warm_up: float = 0.0
    """Epochs of the warm-up, or of one cycle."""

    def __post_init__(self) -> None:
        require(self.beta >= 0, "beta", self.beta, "at least 0")
        require(self.warm_up >= 0, "warm_up", self.warm_up, "at least 0")
        if self.schedule != "constant" and self.warm_up == 0:
            raise InputError(
                f"--schedule {self.schedule} needs a length: set --warm-up EPOCHS"
            )


@dataclasses.dataclass(frozen=True)
class Critic:
    """The critic, and the game that is played against it."""

    loss: Literal["logistic", "minimax", "hinge", "wasserstein", "least_squares"] = (
        "logistic"
    )
    """What critic and generator minimize; logistic is non-saturating."""
    critic_hidden: tuple[int, ...] = ()
    """Widths of the critic's dense layers; none: those of the encoder."""
    critic_norm: Literal["none", "spectral", "batch"] = "none"
    """Normalization of the critic's layers; spectral divides kernels by their largest
    singular value.
    """
    gradient_penalty: float = 0.0
    """Weight of (|slope| - 1)^2 between real and fake; 10 in WGAN-GP."""
    r1: float = 0.0
    """Weight of |slope|^2 / 2 at real examples."""
    critic_moves: int = 1
    """Moves of the critic for one of its opponents."""
    critic_learning_rate: float = 0.0
    """Step size of the critic; 0 is that of the others."""
    beta1: float = 0.5
    """Decay of Adam's first moment, for all players."""
    beta2: float = 0.999
    """Decay of Adam's second moment, for all players."""

    def __post_init__(self) -> None:
        at_least(0, self, "gradient_penalty", "r1", "critic_learning_rate")
        widths = min(self.critic_hidden, default=1) >= 1
        require(widths, "critic_hidden", self.critic_hidden, "widths of at least 1")
        at_least(1, self, "critic_moves")
        require(0 <= self.beta1 < 1, "beta1", self.beta1, "in [0, 1)")
        require(0 <= self.beta2 < 1, "beta2", self.beta2, "in [0, 1)")
        if (self.gradient_penalty or self.r1) and self.critic_norm == "batch":
            raise InputError(
                "--gradient-penalty and --r1 are of single examples, which "
                "--critic-norm batch mixes: set them to 0 or choose another norm"
            )


@dataclasses.dataclass(frozen=True)
class Training:
    """How long, how fast, and what is written when."""

    epochs: int = 30
    """Passes over the training split."""
    batch_size: int = 128
    """Examples of a step, over all devices; the rest of an epoch is dropped."""
    learning_rate: float = 1e-3
    """Step size of Adam."""
    decay: Literal["constant", "cosine"] = "constant"
    """Learning rate over training; cosine falls to zero at the end."""
    clip: float = 0.0
    """Largest global norm of a player's gradient; 0 clips nothing."""
    ema: float = 0.0
    """Decay of the averaged parameters that evaluation uses; 0 is off."""
    seed: int = 0
    """Of parameters, order of the data, and all noise."""
    parallel: Parallel = "jit"
    """How devices share a batch; by jit, noise is the same for any number of them."""
    precision: Literal["f32", "bf16"] = "f32"
    """Of the hidden layers in training; all else, and evaluation, is in float32."""
    fsdp: int = 1
    """Devices that have one copy of the state among them, for models that are large."""
    patience: int = 0
    """Evaluations without a better validation loss before stopping; 0 never stops."""
    log_every: int = 0
    """Steps between lines of the log, run as one compiled call; 0 is an epoch."""
    evaluate_every: int = 5
    """Epochs between evaluations (at the next line of the log)."""
    checkpoint_every: int = 2000
    """Steps between checkpoints (at the next line of the log)."""

    def __post_init__(self) -> None:
        at_least(1, self, "epochs", "batch_size", "evaluate_every", "checkpoint_every")
        at_least(1, self, "fsdp")
        if self.fsdp > 1 and self.parallel != "jit":
            raise InputError(f"--fsdp is not of --parallel {self.parallel}: use jit")
        at_least(0, self, "clip", "patience", "log_every", "seed")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        require(0 <= self.ema < 1, "ema", self.ema, "in [0, 1)")
