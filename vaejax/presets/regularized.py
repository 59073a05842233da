"""Presets with a penalty of their own instead of the ELBO's terms."""

from functools import partial

from vaejax import objectives
from vaejax.configs import Data, Latents, LatentSize, Network, Training, Weight
from vaejax.data.kinds import require_images
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

__all__ = ["ms_ssim_vae", "rae"]


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


@preset
def ms_ssim_vae(
    *,
    data: Data = GREY,
    network: Network = Network(),
    latent: Latents = Latents(16),
    similarity_weight: float = 500.0,
    weight: Weight = Weight(),
    training: Training = Training(epochs=60),
) -> Experiment:
    """A VAE of images whose loss is their structural similarity [Snell et al. 2017].

    The likelihood says what E[x | z] is and is not trained: with it held-out data has
    an ELBO, which says little here; that of the best state is its squared error.

    Args:
      similarity_weight: nats that a similarity of 0 costs, beside the KL term.
    """
    scale = similarity_weight
    require(scale > 0, "similarity_weight", scale, "above 0")
    view = a.open_data(data, network)
    require_images(view.dataset.spec, "ms_ssim_vae", ": choose vae")
    a.require_complete(view)
    objective = partial(objectives.expected_dissimilarity, weight=scale)
    body = build_bodies(network, view.dataset)
    metrics = {
        **a.latent_metrics(latent.size, view)(0),
        "reconstruction": reconstruction_error(),
    }
    return a.one_player(
        a.vae_model(body, latent, view),
        objective,
        view,
        training,
        lambda samples: metrics,
        {"beta": a.weight_schedule(weight, training, view.dataset)},
        selection=lambda values: values["mse"],
    )
