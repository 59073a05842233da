"""The Transformer over codes: its likelihood, its cache and its draws."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vaejax import InputError, elbo, infer
from vaejax.metrics import exact_likelihood
from vaejax.models import CodePrior, Label
from vaejax.models.autoregressive import most_probable
from vaejax.nn.transformer import CausalTransformer

from .noise import scattered

KEY = jax.random.key(0)
K, LEVELS, HEIGHT, WIDTH, CLASSES = 5, 2, 2, 3, 3
LENGTH = HEIGHT * WIDTH * LEVELS
EPS = float(np.finfo(np.float32).eps)
ROUNDING = 1e-5
"""Sums of some ten products of size one in float32: about 100 eps."""
MODEL = CodePrior(
    CausalTransformer(K, LENGTH, LEVELS, width=16, depth=2, heads=2), Label(CLASSES)
)
X = jax.random.randint(KEY, (4, HEIGHT, WIDTH, LEVELS), 0, K)
BATCH = {"x": X, "y": jnp.array([0, 1, 2, -1])}
WEIGH = jax.jit(nn.apply(infer, MODEL))


@pytest.fixture(scope="module")
def variables():
    return scattered(jax.jit(nn.init(elbo, MODEL))(KEY, BATCH, KEY), 0.4, KEY)


@pytest.fixture(scope="module")
def logits(variables):
    """All logits of codes `[batch, length]` and labels, compiled once."""

    def of(net, codes, c):
        return net(codes, c)

    call = jax.jit(nn.apply(of, MODEL.network))
    params = {"params": variables["params"]["network"]}
    return lambda codes, y: call(params, codes, Label(CLASSES)({"y": y}))


def test_a_code_changes_what_follows_it_and_nothing_before(logits):
    codes = X.reshape(len(X), -1)
    before = logits(codes, BATCH["y"])
    for place in (0, 5, LENGTH - 1):
        changed = codes.at[:, place].set((codes[:, place] + 1) % K)
        moved = jnp.abs(logits(changed, BATCH["y"]) - before).max((0, 2))
        assert (moved[: place + 1] == 0).all()
        assert (moved[place + 1 :] > 1e-3).all()


def test_the_cache_gives_the_logits_of_a_full_pass(variables, logits):
    net, params = MODEL.network, {"params": variables["params"]["network"]}
    codes, c = X.reshape(len(X), -1), Label(CLASSES)(BATCH)

    def step(net, token, codes, place, cache):
        out, cache = net.step(token, place, cache, c)
        return out, net.embed(codes, place), cache

    token = nn.apply(lambda net: net.start(len(codes)), net)(params)
    cache, found, step = net.empty_cache(len(codes)), [], jax.jit(nn.apply(step, net))
    for place in range(LENGTH):
        out, token, cache = step(
            params, token, codes[:, place], jnp.asarray(place), cache
        )
        found.append(out)
    found = jnp.stack(found, 1)
    np.testing.assert_allclose(found, logits(codes, BATCH["y"]), atol=10 * ROUNDING)


def test_its_likelihood_is_the_sum_of_its_conditionals(variables, logits):
    """By hand in NumPy; its ELBO is the likelihood, whatever the number of draws."""
    infer_3 = jax.jit(nn.apply(partial(infer, samples=3), MODEL))
    found = infer_3(variables, BATCH, KEY)
    log_p = jax.nn.log_softmax(logits(X.reshape(len(X), -1), BATCH["y"]))
    log_p = np.asarray(log_p)
    flat = np.asarray(X).reshape(len(X), -1)
    by_hand = np.array(
        [
            sum(log_p[row, t, code] for t, code in enumerate(codes))
            for row, codes in enumerate(flat)
        ]
    )
    assert found.kl.shape == found.log_w.shape == (3, len(X))
    np.testing.assert_allclose(found.log_w, np.tile(by_hand, (3, 1)), rtol=ROUNDING)
    loss, terms = jax.jit(nn.apply(elbo, MODEL))(variables, BATCH, KEY)
    assert np.isclose(loss, -by_hand.mean(), rtol=ROUNDING)
    assert terms["kl"] == 0 and {np.shape(t) for t in terms.values()} == {()}


def test_the_label_changes_the_likelihood(variables):
    log_px = WEIGH(variables, BATCH, KEY).log_px
    other = BATCH | {"y": jnp.array([1, 2, 0, 0])}
    changed = WEIGH(variables, other, KEY).log_px
    assert (jnp.abs(changed - log_px) > 0.01).all()


SMALL = CodePrior(CausalTransformer(3, 4, 2, width=8, depth=1, heads=1))


def all_maps():
    """The 81 maps of 1 x 2 places with two levels of three codes."""
    codes = np.stack(np.meshgrid(*[np.arange(3)] * 4, indexing="ij"), -1)
    return jnp.asarray(codes.reshape(-1, 1, 2, 2), jnp.int32)


@pytest.fixture(scope="module")
def small():
    """A model of 81 maps, its parameters, and the probability of each map."""
    batch = {"x": all_maps()}
    variables = scattered(jax.jit(nn.init(elbo, SMALL))(KEY, batch, KEY), 0.7, KEY)
    log_p = jax.jit(nn.apply(infer, SMALL))(variables, batch, KEY).log_px[0]
    return variables, np.exp(np.asarray(log_p, np.float64))


def test_bits_of_a_code_are_those_of_the_probabilities(small):
    """Over the 81 maps, and as many of padding: means, and their standard errors."""
    variables, p = small
    metric, batch = exact_likelihood(), {"x": jnp.tile(all_maps(), (2, 1, 1, 1))}
    batch["weight"] = jnp.repeat(jnp.array([1.0, 0.0]), 81)

    def evaluate(variables):
        return metric.compute(
            metric.update(metric.init(), SMALL, variables, batch, KEY)
        )

    found = jax.jit(evaluate)(variables)
    nats = -np.log(p)
    assert np.isclose(found["nll"], nats.mean(), rtol=ROUNDING)
    assert np.isclose(found["bits_per_dim"], nats.mean() / 4 / np.log(2), rtol=ROUNDING)
    error = nats.std(ddof=1) / 9
    assert np.isclose(found["nll_se"], error, rtol=10 * ROUNDING)


KEYS = jax.random.split(KEY, 500)


@pytest.fixture(scope="module")
def draws_of(small):
    """Draws `[keys * 20, 4]` at a temperature; top k is compiled in."""
    batch = {"x": jnp.zeros((20, 1, 2, 2))}

    def draw(model, keys, heat, top_k):
        return model.draw_codes(batch, keys, heat, top_k).reshape(-1, 4)

    calls = {k: jax.jit(nn.apply(partial(draw, top_k=k), SMALL)) for k in (0, 2)}
    return lambda keys, heat=1.0, top_k=0: np.asarray(
        calls[top_k](small[0], keys, jnp.float32(heat))
    )


def numbers(codes):
    """How often each of the 81 maps is among codes `[N, 4]`."""
    return np.bincount(codes @ [27, 9, 3, 1], minlength=81)


def test_probabilities_of_all_maps_sum_to_one(small):
    assert abs(small[1].sum() - 1) < 81 * EPS * 4


def test_draws_have_the_frequencies_of_the_model(small, draws_of):
    """Pearson's statistic of 81 cells is 80 +- 12.6 where they agree: below 160."""
    codes = draws_of(KEYS)
    expected = len(codes) * small[1]
    assert ((numbers(codes) - expected) ** 2 / expected).sum() < 160
    # A draw does not depend on how many there are.
    np.testing.assert_array_equal(draws_of(KEYS[:1]), codes[:20])


def sharpened(variables, temperature, top_k):
    """Probabilities of all maps by conditionals at a temperature, with the top k."""
    conditionals = nn.apply(lambda m: m.conditionals({"x": all_maps()}), SMALL)
    log_p = np.asarray(conditionals(variables).logits, np.float64).reshape(81, 4, 3)
    each = np.exp(log_p / temperature)
    least = np.sort(each, -1)[..., -top_k, None]
    each = np.where(each >= least, each, 0)
    each /= each.sum(-1, keepdims=True)
    codes = np.asarray(all_maps()).reshape(81, 4, 1)
    return np.take_along_axis(each, codes, -1)[..., 0].prod(-1)


def test_temperature_and_top_k_are_those_of_each_conditional(small, draws_of):
    """Chi-squared again, of the 16 maps that two codes at each place leave."""
    codes, p = draws_of(KEYS, 0.5, 2), sharpened(small[0], 0.5, 2)
    counts = numbers(codes)
    assert (p > 0).sum() == 16 and counts[p == 0].sum() == 0
    expected = len(codes) * p[p > 0]
    assert ((counts[p > 0] - expected) ** 2 / expected).sum() < 15 + 8 * 30**0.5
    greedy = numbers(draws_of(KEYS, 0.0, 2))
    assert (greedy > 0).sum() == 1
    assert greedy.argmax() == sharpened(small[0], 0.5, 1).argmax()


def test_top_k_keeps_the_largest_logits():
    logits = jnp.array([[0.0, 3.0, 1.0, 2.0]])
    kept = np.isfinite(most_probable(logits, 2))
    np.testing.assert_array_equal(kept, [[False, True, False, True]])
    assert most_probable(logits, 0) is logits


TRANSITIONS = np.array([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.05, 0.25, 0.7]])


def stationary():
    """The distribution that the chain keeps."""
    values, vectors = np.linalg.eig(TRANSITIONS.T)
    found = np.real(vectors[:, np.argmax(values.real)])
    return found / found.sum()


def chain(rng, number, length):
    """Sequences `[number, length]` of the chain, begun as it goes on."""
    uniform = rng.random((number, length, 1))
    codes = [(uniform[:, 0] > np.cumsum(stationary())).sum(-1)]
    for t in range(1, length):
        codes.append((uniform[:, t] > np.cumsum(TRANSITIONS, 1)[codes[-1]]).sum(-1))
    return jnp.asarray(np.minimum(np.stack(codes, 1), 2), jnp.int32)


def test_trained_on_a_markov_chain_it_reaches_the_entropy_rate():
    """Within 2 % of the entropy of the chain's sequences, on new ones.

    What new sequences have by the true transitions is subtracted: the difference is
    an estimate of a divergence, whose noise is far below its bound.
    """
    length, rows = 16, 64
    model = CodePrior(CausalTransformer(3, length, width=16, depth=1, heads=2))
    rng = np.random.default_rng(0)
    train = chain(rng, 120 * rows, length).reshape(120, rows, 4, 4, 1)
    variables = jax.jit(nn.init(elbo, model))(KEY, {"x": train[0]}, KEY)
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, len(train)))

    def step(carry, x):
        params, state = carry
        loss = nn.apply(lambda m: elbo(m, {"x": x}, KEY)[0], model)
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    begin = variables, optimizer.init(variables)
    (variables, _), _ = jax.jit(partial(jax.lax.scan, step))(begin, train)
    new = chain(rng, 512, length)
    batch = {"x": new.reshape(-1, 4, 4, 1)}
    log_px = jax.jit(nn.apply(infer, model))(variables, batch, KEY).log_px[0]
    codes = np.asarray(new)
    true = np.log(stationary())[codes[:, 0]]
    true = true + np.log(TRANSITIONS[codes[:, :-1], codes[:, 1:]]).sum(1)
    plogp = TRANSITIONS * np.log(TRANSITIONS)
    rate = -stationary() @ plogp.sum(1)
    entropy = -(stationary() @ np.log(stationary())) + (length - 1) * rate
    excess = float(np.mean(true - np.asarray(log_px)))
    assert -0.005 * entropy < excess < 0.02 * entropy


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ({"x": X.astype(jnp.float32)}, "whole numbers"),
        ({"x": X, "mask": jnp.ones(X.shape)}, "holes"),
        ({"x": X[..., :1]}, r"\[batch, height, width, 2\] with 12 codes"),
        ({"x": X[:, :1]}, "with 12 codes"),
    ],
)
def test_what_are_no_codes_of_the_model_is_refused(variables, batch, words):
    with pytest.raises(InputError, match=words):
        nn.apply(infer, MODEL)(variables, BATCH | batch, KEY)


def test_impossible_settings_are_refused(variables):
    with pytest.raises(InputError, match="top-k is 6: it must be 0 to 5"):
        nn.apply(lambda m: m.draw_codes(BATCH, KEY[None], None, 6), MODEL)(variables)
    with pytest.raises(InputError, match="3 heads cannot share a width of 16"):
        net = CausalTransformer(K, LENGTH, width=16, heads=3)
        jax.eval_shape(net.init, KEY, X.reshape(4, -1))
    with pytest.raises(InputError, match="no latents of its own"):
        nn.apply(lambda m: m.encode(BATCH), MODEL)(variables)


def test_dropout_asks_for_its_key(small):
    """Without a key the network is the one without dropout."""
    params, codes = {"params": small[0]["params"]["network"]}, all_maps().reshape(81, 4)
    net = SMALL.network.clone(dropout=0.5)
    call = jax.jit(net.apply)
    dropped = call(params, codes, rngs={"dropout": KEY})
    still = jax.jit(SMALL.network.apply)(params, codes)
    np.testing.assert_array_equal(call(params, codes), still)
    assert (jnp.abs(dropped - still).max((1, 2)) > 1e-3).all()
