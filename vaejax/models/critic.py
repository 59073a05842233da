"""Networks that judge: critics (of x, of z, of pairs) and classifiers."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from vaejax.models.conditions import condition_of
from vaejax.nn.layers import linear
from vaejax.nn.networks import MLP
from vaejax.types import Array, Batch


class Critique(NamedTuple):
    """A score `[batch]` (or logits `[batch, classes]`), and the layers before it.

    `features[0]` is what was judged, `features[k]` the output of layer k.
    """

    score: Array
    features: tuple[Array, ...]


def critique(score: Array, features: tuple[Array, ...]) -> Critique:
    """In float32, in whatever precision bodies compute: losses are made of it."""
    exact = tuple(jnp.asarray(layer, jnp.float32) for layer in features)
    return Critique(score, exact)


class CriticNetwork(nn.Module):
    """Scores what it is shown: high where real. No sigmoid: a score is a logit.

    A condition enters beside the subject or, with `projection`, as an inner product
    with the last features [Miyato & Koyama 2018, eq. 3].
    """

    body: nn.Module
    condition: nn.Module | None = None
    projection: bool = False
    norm: str = "none"

    @nn.compact
    def __call__(self, subject: Array, batch: Batch) -> Critique:
        c = condition_of(self.condition, batch)
        features = self.body.features(subject, None if self.projection else c)
        last = features[-1].reshape(len(features[-1]), -1)
        score = linear(nn.Dense(1), self.norm, last)[:, 0]
        if self.projection and c is not None:
            embedding = nn.Dense(last.shape[-1], use_bias=False)
            score += (last * linear(embedding, self.norm, c)).sum(-1)
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
        last = features[-1].reshape(len(x), -1)
        both = self.joint(jnp.concatenate([last, self.latents(z)], -1))
        score = linear(nn.Dense(1), self.norm, both)[:, 0]
        return critique(score, (*features, both))


class Classifier(nn.Module):
    """p(y | x): logits `[batch, classes]`, and the features they are linear in."""

    body: nn.Module
    classes: int

    @nn.compact
    def __call__(self, x: Array, batch: Batch) -> Critique:
        features = self.body.features(x)
        last = features[-1].reshape(len(x), -1)
        return critique(nn.Dense(self.classes)(last), features)
