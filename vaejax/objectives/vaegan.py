"""VAE-GAN and CVAE-GAN: reconstruction in the features of networks that judge.

Each player's loss is a weighted sum of the same terms; only the parts that a player
owns are differentiated, so no gradient needs to be stopped.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax.nn import log_softmax, one_hot

from vaejax.distributions import Normal
from vaejax.inference.terms import infer
from vaejax.objectives.adversarial import Loss, Subjects, dream, fooling, judge
from vaejax.types import Array, Batch, Key, Metrics

Shown = Callable[[Any, Batch, Key], Subjects]


def feature_nll(ours: Array, real: Array) -> Array:
    """-log N(f(x); f(x~), I) of features `[batch, ...]`: `[batch]`, nats.

    [Larsen et al. 2016, eq. 7].
    """
    return -Normal(ours, 1.0).log_prob(real).sum(range(1, real.ndim))


def half_squares(ours: Array, real: Array) -> Array:
    """|f(x) - f(x~)|^2 / 2 of features `[batch, ...]`: `[batch]`."""
    return 0.5 * jnp.square(ours - real).sum(range(1, real.ndim))


def encoder(
    model: Any, batch: Batch, key: Key, *, layer: int, beta: float | Array = 1.0
) -> tuple[Array, Metrics]:
    """The encoder of a VAE-GAN, nats per example.

    loss = beta * KL(q(z | x) || p(z)) - E_q[log N(Dis_l(x); Dis_l(Dec(z)), I)],
    as [Larsen et al. 2016, eq. 8 without its last term, alg. 1].

    Args:
      layer: of the critic's features; 0 is x itself, and the loss that of a Gaussian
        VAE.
    """
    i = infer(model, batch, key)
    distortion = feature_distortion(model, i.px.mean[0], batch, layer)
    kl = i.kl.mean()
    total = beta * kl + distortion
    return total, {"loss": total, "kl": kl, "distortion": distortion}


def feature_distortion(model: Any, rebuilt: Array, batch: Batch, layer: int) -> Array:
    """Mean -log p(Dis_l(x) | z), nats."""
    ours = model.critic(rebuilt, batch).features[layer]
    return feature_nll(ours, model.critic(batch["x"], batch).features[layer]).mean()


def decoder(
    model: Any,
    batch: Batch,
    key: Key,
    *,
    layer: int,
    loss: Loss,
    subjects: Shown,
    gamma: float | Array = 1.0,
    adversarial: float | Array = 1.0,
) -> tuple[Array, Metrics]:
    """The decoder of a VAE-GAN.

    loss = gamma * distortion + adversarial * fool, the style weight gamma trading
    content against style [Larsen et al. 2016, eq. 9].
    """
    i = infer(model, batch, key)
    distortion = gamma * feature_distortion(model, i.px.mean[0], batch, layer)
    fakes = judge(model, subjects(model, batch, key), batch).fakes
    fool = adversarial * fooling(loss, fakes)
    total = distortion + fool
    return total, {"loss": total, "content": distortion, "style": fool}


def pairwise(
    model: Any, batch: Batch, key: Key, *, pixels: float, critic: float, classes: float
) -> tuple[Array, Array, Array]:
    """Pairwise feature matching of x and Dec(Enc(x)) [Bao et al. 2017, eq. 7].

    Returns its three weighted terms (pixels, the critic's features, the classifier's),
    each the batch mean of |f(x) - f(x~)|^2 / 2 at the last features.
    """
    rebuilt, x = infer(model, batch, key).px.mean[0], batch["x"]
    views = [
        (pixels, x, rebuilt),
        (critic, *(model.critic(v, batch).features[-1] for v in (x, rebuilt))),
        (classes, *(model.classifier(v, batch).features[-1] for v in (x, rebuilt))),
    ]
    near, seen, named = (w * half_squares(b, a).mean() for w, a, b in views)
    return near, seen, named


def encoder_pairwise(
    model: Any,
    batch: Batch,
    key: Key,
    *,
    beta: float | Array = 3.0,
    pixels: float = 1.0,
    critic: float = 1.0,
    classes: float = 1.0,
) -> tuple[Array, Metrics]:
    """The encoder of a CVAE-GAN: beta * KL + pairwise matching [Bao et al. 2017]."""
    kl = infer(model, batch, key).kl.mean()
    near, seen, named = pairwise(
        model, batch, key, pixels=pixels, critic=critic, classes=classes
    )
    total = beta * kl + near + seen + named
    return total, {"loss": total, "kl": kl, "distortion": near + seen + named}


def decoder_pairwise(
    model: Any,
    batch: Batch,
    key: Key,
    *,
    loss: Loss,
    subjects: Shown,
    pixels: float = 1.0,
    critic: float = 1.0,
    classes: float = 1.0,
    mean: float = 1e-3,
    class_mean: float = 1e-3,
    adversarial: float | Array = 0.0,
) -> tuple[Array, Metrics]:
    """The generator of a CVAE-GAN [Bao et al. 2017, alg. 1].

    loss = pairwise + mean * L_GD + class_mean * L_GC + adversarial * fool: the means
    of the critic's features of x and of G(z) should agree (eq. 4), and those of the
    classifier's within each class (eq. 5), both over the batch. The paper has no
    adversarial term proper.
    """
    near, seen, named = pairwise(
        model, batch, key, pixels=pixels, critic=critic, classes=classes
    )
    dreamt, x = dream(model, batch, key)[0], batch["x"]
    seen_x, seen_dream = (model.critic(v, batch).features[-1] for v in (x, dreamt))
    named_x, named_dream = (
        model.classifier(v, batch).features[-1] for v in (x, dreamt)
    )
    fakes = judge(model, subjects(model, batch, key), batch).fakes
    terms = {
        "content": near + seen + named,
        "mean_matching": mean * mean_distance(seen_x, seen_dream),
        "class_matching": class_mean
        * class_distance(model, named_x, named_dream, batch),
        "style": adversarial * fooling(loss, fakes),
    }
    total = jnp.stack(list(terms.values())).sum()
    return total, {"loss": total, **terms}


def mean_distance(real: Array, fake: Array) -> Array:
    """|mean f(x) - mean f(G(z))|^2 / 2 over the batch [Bao et al. 2017, eq. 4]."""
    return half_squares(fake.mean(0)[None], real.mean(0)[None])[0]


def class_distance(model: Any, real: Array, fake: Array, batch: Batch) -> Array:
    """The same within each class that the batch has, summed (eq. 5).

    `real` and `fake` are `[batch, ...]`, both of the labels `y` of the batch.
    """
    members = one_hot(batch["y"], model.classifier.classes)
    share = members / jnp.maximum(members.sum(0, keepdims=True), 1)
    flat = (real - fake).reshape(len(real), -1)
    return 0.5 * jnp.square(share.T @ flat).sum()


def classify(model: Any, batch: Batch, key: Key) -> tuple[Array, Metrics]:
    """Cross-entropy -log p(y | x), nats per example; examples with y = -1 have none."""
    del key
    logits = model.classifier(batch["x"], batch).score
    right = one_hot(batch["y"], logits.shape[-1])
    loss = -(right * log_softmax(logits)).sum(-1).mean()
    hits = jnp.mean(logits.argmax(-1) == batch["y"])
    return loss, {"loss": loss, "accuracy": hits}
