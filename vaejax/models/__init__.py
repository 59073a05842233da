"""Models: Linen modules that infer and generate, and critics."""

from vaejax.models.adversarial import CVAEGAN, GAN, CriticVAE, Judge
from vaejax.models.autoregressive import CodePrior
from vaejax.models.base import Generator, LatentModel
from vaejax.models.borrowed import borrowed
from vaejax.models.capabilities import (
    classifies,
    completes,
    draws_latents,
    encodes,
    generates,
    has_baseline,
    has_codes,
    infers,
    predicts,
    weighs_latents,
    with_top_k,
)
from vaejax.models.completion import (
    ArbitraryCompletion,
    Baseline,
    Completion,
    Context,
    Whole,
)
from vaejax.models.conditions import Conditioned, Label, conditional, conditions_of
from vaejax.models.conv_ladder import ConvLadderVAE
from vaejax.models.critic import Classifier, CriticNetwork, Critique, JointCritic
from vaejax.models.deep import DeepVAE
from vaejax.models.hamiltonian import HamiltonianVAE, LearnedDynamics
from vaejax.models.hierarchical import TwoLayerVAE
from vaejax.models.holes import Blind, Constant, SetEncoder, WithMask
from vaejax.models.joint import JointVAE, MixedEncoder
from vaejax.models.ladder import HVAE, LadderVAE
from vaejax.models.missing import LogisticMissingness, MissingVAE, SelfMasking
from vaejax.models.priors import MixturePrior, StandardNormal, VampPrior
from vaejax.models.quantized import (
    FiniteQuantizer,
    MapEncoder,
    QuantizedVAE,
    SignQuantizer,
)
from vaejax.models.rectified_flow import RectifiedFlow
from vaejax.models.semisupervised import SemiSupervisedVAE
from vaejax.models.staged import TwoStages
from vaejax.models.two_levels import TopConditioned, TwoLevelVAE
from vaejax.models.vae import (
    VAE,
    Decoder,
    DeterministicEncoder,
    Encoder,
    GaussianEncoder,
    GaussianNetwork,
)
from vaejax.models.vector_quantizer import VectorQuantizer

__all__ = [
    "CVAEGAN",
    "GAN",
    "HVAE",
    "VAE",
    "ArbitraryCompletion",
    "Baseline",
    "Blind",
    "Classifier",
    "CodePrior",
    "Completion",
    "Conditioned",
    "Constant",
    "Context",
    "ConvLadderVAE",
    "CriticNetwork",
    "CriticVAE",
    "Critique",
    "Decoder",
    "DeepVAE",
    "DeterministicEncoder",
    "Encoder",
    "FiniteQuantizer",
    "GaussianEncoder",
    "GaussianNetwork",
    "Generator",
    "HamiltonianVAE",
    "JointCritic",
    "JointVAE",
    "Judge",
    "Label",
    "LadderVAE",
    "LatentModel",
    "LearnedDynamics",
    "LogisticMissingness",
    "MapEncoder",
    "MissingVAE",
    "MixedEncoder",
    "MixturePrior",
    "QuantizedVAE",
    "RectifiedFlow",
    "SelfMasking",
    "SemiSupervisedVAE",
    "SetEncoder",
    "SignQuantizer",
    "StandardNormal",
    "TopConditioned",
    "TwoLayerVAE",
    "TwoLevelVAE",
    "TwoStages",
    "VampPrior",
    "VectorQuantizer",
    "Whole",
    "WithMask",
    "borrowed",
    "classifies",
    "completes",
    "conditional",
    "conditions_of",
    "draws_latents",
    "encodes",
    "generates",
    "has_baseline",
    "has_codes",
    "infers",
    "predicts",
    "weighs_latents",
    "with_top_k",
]
