"""Games against a critic: what it is shown, how it is scored, what fools it.

`subjects(model, batch, key)` says what the critic compares; the same key gives every
player the same draws, so that the compiled step makes each forward pass once.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn import relu, softplus

from vaejax.inference.terms import infer
from vaejax.models.critic import Critique
from vaejax.purposes import OfObjective
from vaejax.types import Array, Batch, Key, Metrics


class Loss(NamedTuple):
    """Elementwise losses of scores, least where the player wins.

    The critic minimizes `real` of the scores of real subjects and `fake` of those of
    fakes; the generator minimizes `fool` of fakes and, where it makes the real
    subjects too (ALI), `confuse` of real ones.
    """

    real: Callable[[Array], Array]
    fake: Callable[[Array], Array]
    fool: Callable[[Array], Array]
    confuse: Callable[[Array], Array]


LOSSES: Mapping[str, Loss] = {
    # -log D and -log(1 - D) with D = sigmoid(score); the generator maximizes log D
    # [Goodfellow et al. 2014, sec. 3].
    "logistic": Loss(
        real=lambda s: softplus(-s),
        fake=softplus,
        fool=lambda s: softplus(-s),
        confuse=softplus,
    ),
    # The same for the critic; the generator minimizes what it maximizes (eq. 1).
    "minimax": Loss(
        real=lambda s: softplus(-s),
        fake=softplus,
        fool=lambda s: -softplus(s),
        confuse=lambda s: -softplus(-s),
    ),
    # [Lim & Ye 2017; Miyato et al. 2018, eq. 16-17].
    "hinge": Loss(
        real=lambda s: relu(1 - s),
        fake=lambda s: relu(1 + s),
        fool=lambda s: -s,
        confuse=lambda s: s,
    ),
    # [Arjovsky et al. 2017, eq. 2].
    "wasserstein": Loss(
        real=lambda s: -s, fake=lambda s: s, fool=lambda s: -s, confuse=lambda s: s
    ),
    # [Mao et al. 2017, eq. 9: a = 0, b = c = 1].
    "least_squares": Loss(
        real=lambda s: 0.5 * jnp.square(s - 1),
        fake=lambda s: 0.5 * jnp.square(s),
        fool=lambda s: 0.5 * jnp.square(s - 1),
        confuse=lambda s: 0.5 * jnp.square(s),
    ),
}


class Subjects(NamedTuple):
    """Inputs that a critic compares: pytrees of `[batch, ...]`, fakes by name."""

    real: Any
    fakes: Mapping[str, Any]


def shared_latents(model: Any, batch: Batch, key: Key) -> Array:
    """z `[batch, latents]` of the prior, the same for all players."""
    key = jax.random.fold_in(key, OfObjective.PRIOR)
    return model.draw_prior(batch, key[None])[0]


def dream(model: Any, batch: Batch, key: Key) -> tuple[Array, Array]:
    """z `[batch, latents]` of the prior, and what the model makes of it."""
    z = shared_latents(model, batch, key)
    return model.decode(z[None], batch).mean[0], z


def generated(model: Any, batch: Batch, key: Key) -> Subjects:
    """x against G(z), z ~ p(z) [Goodfellow et al. 2014]."""
    return Subjects(batch["x"], {"prior": dream(model, batch, key)[0]})


def rebuilt(model: Any, batch: Batch, key: Key) -> Subjects:
    """x against Dec(z_p) and Dec(Enc(x)) [Larsen et al. 2016, alg. 1]."""
    fakes = {
        "prior": dream(model, batch, key)[0],
        "reconstruction": infer(model, batch, key).px.mean[0],
    }
    return Subjects(batch["x"], fakes)


def reconstruction_alone(model: Any, batch: Batch, key: Key) -> Subjects:
    """x against Dec(z), z ~ q(z | x) [Esser et al. 2021, eq. 5]."""
    return Subjects(batch["x"], {"reconstruction": infer(model, batch, key).px.mean[0]})


def encoded(model: Any, batch: Batch, key: Key) -> Subjects:
    """z ~ p(z) against z ~ q(z | x) [Makhzani et al. 2016]."""
    z = shared_latents(model, batch, key)
    return Subjects(z, {"posterior": infer(model, batch, key).z[0]})


def paired(model: Any, batch: Batch, key: Key) -> Subjects:
    """(x, z ~ q(z | x)) against (G(z), z ~ p(z)) [Dumoulin et al. 2017, eq. 1]."""
    z = model.encode(batch).rsample(jax.random.fold_in(key, OfObjective.POSTERIOR))
    return Subjects((batch["x"], z), {"prior": dream(model, batch, key)})


class Judged(NamedTuple):
    """The critic's scores of real and fake inputs."""

    real: Critique
    fakes: Mapping[str, Critique]


def judge(model: Any, subjects: Subjects, batch: Batch) -> Judged:
    """The critic's view of all subjects."""
    fakes = {name: model.critic(fake, batch) for name, fake in subjects.fakes.items()}
    return Judged(model.critic(subjects.real, batch), fakes)


def critic(
    model: Any,
    batch: Batch,
    key: Key,
    *,
    loss: Loss,
    subjects: Callable[[Any, Batch, Key], Subjects],
    gradient_penalty: float = 0.0,
    r1: float = 0.0,
) -> tuple[Array, Metrics]:
    """The critic's loss: mean over all scores, summed over the kinds of fakes.

    Args:
      gradient_penalty: weight of (|grad| - 1)^2 between real and fake subjects
        [Gulrajani et al. 2017, eq. 3].
      r1: weight of |grad|^2 / 2 at real subjects [Mescheder et al. 2018, eq. 9].
    """
    shown = subjects(model, batch, key)
    real, fakes = judge(model, shown, batch)
    terms = {
        "loss_real": loss.real(real.score).mean(),
        "loss_fake": sum_over(fakes, lambda fake: loss.fake(fake.score).mean()),
    }
    if gradient_penalty:
        between = mixing_points(shown, key)
        norm = jnp.sqrt(squared_slope(model.critic, between, batch) + 1e-12)
        terms["penalty"] = gradient_penalty * jnp.square(norm - 1).mean()
    if r1:
        slope = squared_slope(model.critic, shown.real, batch)
        terms["r1"] = r1 / 2 * slope.mean()
    total = sum_over(terms, lambda term: term)
    return total, {"loss": total, **terms, **diagnostics(real, fakes)}


def diagnostics(real: Critique, fakes: Mapping[str, Critique]) -> Metrics:
    """Accuracy and gap of the critic.

    `accuracy` is the share of scores on the right side of their threshold: the middle
    of the two means, since not every loss has its threshold at 0. `gap` is the mean
    score of the real minus that of the fakes.
    """
    fake = jnp.stack([critique.score for critique in fakes.values()])
    middle = (real.score.mean() + fake.mean()) / 2
    right = jnp.mean(real.score > middle) + jnp.mean(fake < middle)
    return {"accuracy": right / 2, "gap": real.score.mean() - fake.mean()}


def sum_over(values: Mapping[str, Any], of: Callable[[Any], Array]) -> Array:
    """The sum of a function of each value."""
    return jnp.stack([of(value) for value in values.values()]).sum()


def mixing_points(shown: Subjects, key: Key) -> Any:
    """Points between real subjects and fakes of the first kind, uniform on the line."""
    key = jax.random.fold_in(key, OfObjective.MIXING)
    fake = next(iter(shown.fakes.values()))

    def between(r: Array, f: Array) -> Array:
        share = jax.random.uniform(key, (len(r),) + (1,) * (r.ndim - 1))
        return share * r + (1 - share) * f

    return jax.tree.map(between, shown.real, fake)


def squared_slope(module: nn.Module, subject: Any, batch: Batch) -> Array:
    """|gradient of the score by the subject|^2 of each example, `[batch]`.

    The score of an example is the mean over its places, as in Wasserstein's loss.
    The critic is unbound for it, so that what it would write (power iterations) stays
    out of the differentiated function.
    """
    pure, variables = module.unbind()

    def score(subject: Any) -> Array:
        judged: Any = pure.apply(variables, subject, batch)
        return judged.of_examples.sum()

    slopes = jax.tree.leaves(jax.grad(score)(subject))
    return jnp.stack(
        [jnp.square(s).sum(range(1, s.ndim)) for s in slopes],
    ).sum(0)


def generator(
    model: Any,
    batch: Batch,
    key: Key,
    *,
    loss: Loss,
    subjects: Callable[[Any, Batch, Key], Subjects],
) -> tuple[Array, Metrics]:
    """The generator's loss, where the player does not make the real inputs."""
    fakes = judge(model, subjects(model, batch, key), batch).fakes
    total = fooling(loss, fakes)
    return total, {"loss": total}


def fooling(loss: Loss, fakes: Mapping[str, Critique]) -> Array:
    """The generator's loss, summed over the kinds of fakes."""
    return sum_over(fakes, lambda fake: loss.fool(fake.score).mean())


def bidirectional(
    model: Any, batch: Batch, key: Key, *, loss: Loss
) -> tuple[Array, Metrics]:
    """Encoder and decoder of ALI and BiGAN: each makes one side of the comparison.

    [Dumoulin et al. 2017; Donahue et al. 2017].
    """
    real, fakes = judge(model, paired(model, batch, key), batch)
    terms = {
        "confuse": loss.confuse(real.score).mean(),
        "fool": fooling(loss, fakes),
    }
    total = terms["confuse"] + terms["fool"]
    return total, {"loss": total, **terms}


def autoencode(
    model: Any, batch: Batch, key: Key, *, loss: Loss, adversarial: float | Array = 1.0
) -> tuple[Array, Metrics]:
    """Reconstruction, with codes that pass for draws of the prior, nats per example.

    loss = E_q[-log p(x | z)] + adversarial * fool [Makhzani et al. 2016, sec. 2]: the
    critic of z has the place of the KL term.
    """
    i = infer(model, batch, key)
    distortion = -jnp.mean(i.log_px)
    fakes = {"posterior": model.critic(i.z[0], batch)}
    rate = adversarial * fooling(loss, fakes)
    total = distortion + rate
    return total, {"loss": total, "distortion": distortion, "rate": rate}
