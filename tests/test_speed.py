"""The benchmark's programs compute what they are timed for, and what speed rests on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from tests.test_scripts import call, refused
from vaejax import distributions as d
from vaejax.cli import by_hand as hand
from vaejax.cli import products
from vaejax.data.uniform import uniform
from vaejax.models import VAE, Decoder, GaussianEncoder, StandardNormal
from vaejax.models import likelihoods as li
from vaejax.nn import networks as net

EPS = float(np.finfo(np.float32).eps)
SIZES = hand.Sizes((9, 7), latents=2, batch=3, samples=4, pixels=12)
WORDS = {
    "iwae": ["examples_per_s", "by_hand", "times_as_fast_as_by_hand", "matmul"],
    "nll": ["image_samples_per_s", "matmul_fraction"],
}


def test_the_slope_of_bits_is_exact_in_both_tails():
    """In relative terms, which `test_densities` does not ask for: the probability of
    the other bit, down to where float32 ends.
    """
    logits = np.linspace(-80, 80, 641, dtype=np.float32)
    slope = jax.jit(jax.vmap(jax.grad(d.log_odds), (0, None)))
    for bit in (0.0, 1.0):
        want = (1 if bit else -1) * expit((-1 if bit else 1) * np.float64(logits))
        np.testing.assert_allclose(slope(logits, bit), want, rtol=40 * EPS)


def test_bits_have_a_curvature_and_slopes_by_grey_values():
    """-s (1 - s), forwards over backwards; and the logit itself."""
    logits = np.linspace(-6, 6, 25, dtype=np.float32)
    second = jax.jit(jax.vmap(jax.hessian(d.log_odds), (0, None)))(logits, 0.3)
    s = expit(np.float64(logits))
    np.testing.assert_allclose(second, -s * (1 - s), rtol=20 * EPS, atol=EPS)
    by_value = jax.jit(jax.vmap(jax.grad(d.log_odds, 1), (0, None)))(logits, 0.3)
    np.testing.assert_array_equal(by_value, logits)


@pytest.mark.parametrize("seed", [0, 1, 2**31])
def test_noise_has_the_bits_of_jax(seed):
    """So that runs begun before go on with the same noise; alone and under vmap."""
    key = jax.random.fold_in(jax.random.key(seed), 7)
    want = jax.random.uniform(key, (3, 5, 2))
    np.testing.assert_array_equal(
        jax.jit(uniform, static_argnums=1)(key, (3, 5, 2)), want
    )
    keys = jax.random.split(key, 3)
    many = jax.vmap(lambda key: uniform(key, (4,)))(keys)
    np.testing.assert_array_equal(many, [jax.random.uniform(k, (4,)) for k in keys])


def test_noise_of_another_generator_is_that_generators():
    key = jax.random.key(0, impl="rbg")
    want = jax.random.uniform(key, (4,))
    np.testing.assert_array_equal(uniform(key, (4,)), want)


def test_rows_as_one_axis_change_nothing():
    """A decoder of `[samples, batch, latents]` against the same of each example alone,
    and the gradient of its weights.
    """
    decoder = net.FlatDecoder(net.MLP((5,)), (2, 3))
    z = jax.random.normal(jax.random.key(0), (4, 3, 2))
    variables = decoder.init(jax.random.key(1), z)
    weights = jax.random.normal(jax.random.key(2), (4, 3, 2, 3))

    def together(variables):
        return decoder.apply(variables, z)

    def alone(variables):
        one = jax.vmap(jax.vmap(lambda z: decoder.apply(variables, z[None])[0]))
        return one(z)

    np.testing.assert_allclose(together(variables), alone(variables), rtol=8 * EPS)
    slopes = [
        jax.grad(lambda v, apply=apply: (apply(v) * weights).sum())(variables)
        for apply in (together, alone)
    ]
    jax.tree.map(  # sums of twelve rows
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=40 * EPS), *slopes
    )


def test_the_loop_by_hand_has_our_bound():
    """The same weights and noise in both give one loss: it does the same work."""
    key, x = jax.random.key(3), jnp.float32(np.arange(36).reshape(3, 12) % 3 == 0)
    keys = jax.random.split(jax.random.key(4))
    encoder, decoder = (
        hand.first_layers(key, of)
        for key, of in zip(keys, (SIZES.encoder(), SIZES.decoder()), strict=True)
    )
    tanh = {"activation": jnp.tanh}
    model = VAE(
        GaussianEncoder(net.FlatEncoder(net.MLP(SIZES.hidden, **tanh)), SIZES.latents),
        Decoder(
            net.FlatDecoder(net.MLP(SIZES.hidden[::-1], **tanh), (12,)), li.Bernoulli()
        ),
        StandardNormal(SIZES.latents),
    )
    mean, log_variance = jnp.split(hand.through(encoder, x), 2, -1)
    noise = jax.random.normal(key, (4, *mean.shape))
    z = mean[None] + jnp.exp(log_variance / 2)[None] * noise
    params = {
        "encoder": {"body": {"mlp": flax(encoder[:-1])}, **flax(encoder[-1:])},
        "decoder": {"body": {"mlp": flax(decoder[:-1]), **flax(decoder[-1:])}},
    }
    given = {"z": z}, {"x": x}
    log_w = model.apply({"params": params}, *given, method="weigh").log_w
    want = -(jax.nn.logsumexp(log_w, 0) - jnp.log(4)).mean()
    loss = hand.bound_loss([encoder, decoder], x, key, SIZES)
    assert float(loss) == pytest.approx(float(want), rel=20 * EPS)


def flax(layers):
    """Layers by hand as Linen names them."""
    return {
        f"Dense_{n}": {"kernel": kernel, "bias": bias}
        for n, (kernel, bias) in enumerate(layers)
    }


def test_the_loop_by_hand_learns():
    images = np.zeros((6, 12), np.uint8)
    images[:, ::2] = 255
    state, loop = hand.by_hand(SIZES, images)
    index = np.arange(6, dtype=np.int32).reshape(2, 3)
    _, losses = loop(state, np.tile(index, (150, 1)))
    first, last = float(losses[0]), float(losses[-1])
    assert last < first / 3  # 12 pixels that never change: nothing to lose


def test_products_alone_are_those_of_a_step():
    """By hand, of 12-9-7-4 read from three examples and 2-7-9-12 of twelve rows: a
    product forward, one for the weights, and one for the input unless it is data.
    """
    encoder = products.products_of(3, SIZES.encoder(), of_data=True)
    decoder = products.products_of(12, SIZES.decoder())
    called = jax.make_jaxpr(products.compile_products(encoder + decoder, 2))()
    found = [line for line in str(called).splitlines() if " dot_general" in line]
    assert len(found) == 2 * (3 * 6 - 1)  # once before the loop, which has the shapes
    forward = products.products_of(12, SIZES.decoder(), trained=False)
    called = jax.make_jaxpr(products.compile_products(forward, 2))()
    assert str(called).count(" dot_general") == 2 * 3


@pytest.mark.parametrize("model", ["iwae", "nll"])
def test_the_benchmark_compares_in_turn(model, capsys):
    small = ("--epochs", 1, "--hidden", 8, "--batch-size", 500, "--samples", 2)
    call("benchmark", "--model", model, *small)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert all(float(number) >= 0 for _, number in lines)
    for (name, _), word in zip(lines, WORDS[model], strict=True):
        assert word in name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--model", "vae", "--samples", 3), "--samples is of --model iwae and nll"),
        (("--model", "nll", "--seeds", 2), "--seeds is not of --model nll"),
        (("--model", "nll", "--batch-size", 5001), "at most 1,000 images"),
        (("--model", "iwae", "--samples", 0), "--samples is 0"),
    ],
)
def test_the_benchmark_refuses(words, said, capsys):
    assert said in refused(capsys, "benchmark", *words)
