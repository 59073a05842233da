"""Presets with a penalty of their own in the place of the ELBO's terms."""

from functools import partial

from vaejax import objectives
from vaejax.configs import Data, LatentSize, Network, Training
from vaejax.errors import require
from vaejax.experiment import Experiment
from vaejax.metrics import count, reconstruction_error
from vaejax.models import VAE, DeterministicEncoder, StandardNormal
from vaejax.objectives.regularized import PenaltyName
from vaejax.presets import assemble as a
from vaejax.presets.bodies import build_bodies
from vaejax.presets.disentangling import GREY
from vaejax.presets.matching import SQUARED
from vaejax.presets.signature import preset

__all__ = ["rae"]


@preset(tiny={"penalty": "gp"})
def rae(
    *,
    data: Data = GREY,
    network: Network = SQUARED,
    latent: LatentSize = LatentSize(16),
    penalty: PenaltyName = "l2",
    embedding_weight: float = 1e-4,
    strength: float = 1e-7,
    training: Training = Training(epochs=100, batch_size=100),
) -> Experiment:
    """The regularized autoencoder, RAE-L2 or RAE-GP [Ghosh et al. 2020].

    It is deterministic: samples are those of a density that is fitted to its encodings
    afterwards, by `--sampler gmm` of scripts/sample.py. The penalty gp is of the
    decoder's whole Jacobian by the latents, estimated in a random direction. Weights
    are pythae's.

    Args:
      penalty: l2: of the decoder's squared parameters; gp: of its squared slopes.
      embedding_weight: weight of half the squared norm of the encodings (beta).
      strength: weight of the penalty (lambda).
    """
    beta = embedding_weight
    require(beta >= 0, "embedding_weight", beta, "at least 0")
    require(strength >= 0, "strength", strength, "at least 0")
    view = a.open_data(data, network)
    body = build_bodies(network, view.dataset)
    model = VAE(
        encoder=DeterministicEncoder(body.encoder, latent.latents),
        decoder=a.build_decoder(body, view),
        prior=StandardNormal(latent.latents),
    )
    objective = partial(
        objectives.regularized, penalty=penalty, beta=beta, strength=strength
    )
    metrics = {"reconstruction": reconstruction_error(), "count": count()}
    return a.one_player(
        model,
        objective,
        view,
        training,
        lambda samples: metrics,
        selection=lambda values: values["distortion"],
    )
