"""Networks that judge: critics (of x, of z, of pairs) and classifiers."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from vaejax.models.conditions import condition_of
from vaejax.nn.layers import kernel_norm, linear
from vaejax.nn.networks import MLP
from vaejax.nn.patches import patch_conv
from vaejax.types import Array, Batch


class Critique(NamedTuple):
    """A score `[batch]` (or logits `[batch, classes]`), and the layers before it.

    A critic of patches gives a map of scores, `[batch, height, width]`: each place of
    it is a judgement, losses are means over all of them, and the score of an example is
    its mean. `features[0]` is what was judged, `features[k]` the output of layer k.
    """

    score: Array
    features: tuple[Array, ...]

    @property
    def of_examples(self) -> Array:
        """The score of each example, `[batch]`: the mean over the places of its map."""
        return self.score.mean(range(1, self.score.ndim))


def critique(score: Array, features: tuple[Array, ...]) -> Critique:
    """In float32, in whatever precision bodies compute: losses are made of it."""
    exact = tuple(jnp.asarray(layer, jnp.float32) for layer in features)
    return Critique(score, exact)


class CriticNetwork(nn.Module):
    """Scores what it is shown: high where real. No sigmoid: a score is a logit.

    A condition enters beside the subject or, with `projection`, as an inner product
    with the last features [Miyato & Koyama 2018, eq. 3]. With `patches` a 4x4
    convolution makes a map of scores of the body's last map; else one dense layer makes
    one score of all of it.
    """

    body: nn.Module
    condition: nn.Module | None = None
    projection: bool = False
    norm: str = "none"
    patches: bool = False

    @nn.compact
    def __call__(self, subject: Array, batch: Batch) -> Critique:
        c = condition_of(self.condition, batch)
        features = self.body.features(subject, None if self.projection else c)
        last = features[-1]
        if self.patches:
            head = patch_conv(1)
        else:
            head, last = nn.Dense(1), last.reshape(last.shape[0], -1)
        score = linear(head, kernel_norm(self.norm), last)[..., 0]
        if self.projection and c is not None:
            mean = last.mean(range(1, last.ndim - 1))  # over places; of a vector itself
            embedding = nn.Dense(mean.shape[-1], use_bias=False)
            agreement = (mean * linear(embedding, kernel_norm(self.norm), c)).sum(-1)
            score += agreement.reshape(-1, *(1,) * (score.ndim - 1))
        return critique(score, features)


class JointCritic(nn.Module):
    """Scores pairs (x, z): features of both, joined [Dumoulin et al. 2017]."""

    body: nn.Module
    latents: MLP
    joint: MLP
    norm: str = "none"

    @nn.compact
    def __call__(self, subject: tuple[Array, Array], batch: Batch) -> Critique:
        x, z = subject
        features = self.body.features(x)
        last = features[-1].reshape(x.shape[0], -1)
        both = self.joint(jnp.concatenate([last, self.latents(z)], -1))
        score = linear(nn.Dense(1), kernel_norm(self.norm), both)[:, 0]
        return critique(score, (*features, both))


class Classifier(nn.Module):
    """p(y | x): logits `[batch, classes]`, and the features they are linear in."""

    body: nn.Module
    classes: int

    @nn.compact
    def __call__(self, x: Array, batch: Batch) -> Critique:
        features = self.body.features(x)
        last = features[-1].reshape(x.shape[0], -1)
        return critique(nn.Dense(self.classes)(last), features)
