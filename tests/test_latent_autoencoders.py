"""Latent autoencoders: slopes by hand, the VAE within, starts, and frozen features."""

import itertools
import shutil
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import vaejax
from vaejax import InputError, infer, objectives, parallel, presets
from vaejax.models.latent_autoencoder import AbsoluteError, SquaredError
from vaejax.nn.perceptual import Perceptual
from vaejax.objectives.latent_autoencoder import (
    DELTA,
    BottleneckTerms,
    Perceived,
    kl_bottleneck,
    latent_autoencoder,
    slope_ratio,
)
from vaejax.parallel.shards import AXIS
from vaejax.presets.signature import tiny_settings
from vaejax.training.config import config_of
from vaejax.training.loop import first_state, open_frozen
from vaejax.training.workdir import claim, read_config, recorded_experiment

KEY = jax.random.key(3)
EPS = np.finfo(np.float32).eps
HINGE = objectives.adversarial.LOSSES["hinge"]


def tiny(make=presets.autoencoder_kl, **settings):
    common = {"dataset": "digits", "batch_size": 16, "epochs": 1}
    return make(**common | tiny_settings(make) | settings)


@pytest.fixture(scope="module")
def bound():
    """A tiny autoencoder with a critic that normalizes over its batch, its variables,
    and a batch.
    """
    experiment = tiny(multipliers=(1,))
    state = first_state(experiment, parallel.make_mesh(1, 16))
    x = experiment.dataset.split("train")["x"][:6].reshape(6, 8, 8, 1) / 16
    batch = {"x": jnp.asarray(x, jnp.float32)}
    return experiment.model, {"params": state.params, **state.stats}, batch


def slopes_of_x(weights, x):
    """Features for a perceptual loss: x itself, and its slopes in some directions."""
    return x, jnp.tanh(x @ weights)


FEATURES = Perceptual(
    "features", "0" * 16, slopes_of_x, jax.random.normal(jax.random.key(1), (1, 3))
)
PERCEIVED = Perceived(FEATURES, 0.3)


def objective(**settings):
    common = {"bottleneck": kl_bottleneck(1e-3), "perceived": PERCEIVED, "loss": HINGE}
    return partial(latent_autoencoder, **common | settings)


def applied(function, bound, key=KEY):
    """A function of a bound model, in training: (loss, terms)."""
    model, variables, batch = bound
    pure = nn.apply(function, model, mutable=["batch_stats"])
    return jax.jit(lambda v: pure(v, batch, key)[0])(variables)


def near_by_hand(model, batch, key):
    """Reconstruction and perceptual distance, as the definition says."""
    px = infer(model, batch, key).px
    far = FEATURES.distance(batch["x"], px.mean[0]).mean()
    # 64 entries of an image: the distance is added to the error of each.
    return -px.log_prob(batch["x"][None]).sum((2, 3, 4)).mean() + 0.3 * 64 * far


def fool_by_hand(model, batch, key):
    return -model.critic(infer(model, batch, key).px.mean[0], batch).score.mean()


@pytest.fixture(scope="module")
def slopes(bound):
    """Gradients of both in all parameters, by the way of the whole network."""
    model, variables, batch = bound

    def gradient(function):
        pure = nn.apply(function, model, mutable=["batch_stats"])

        def of(params):
            return pure({**variables, "params": params}, batch, KEY)[0]

        return jax.jit(jax.grad(of))(variables["params"])

    return gradient(near_by_hand), gradient(fool_by_hand)


def ratio_by_hand(slopes):
    near, fool = (
        np.linalg.norm(np.float64(s["decoder"]["body"]["conv_out"]["kernel"]))
        for s in slopes
    )
    return near / (fool + DELTA)


def test_the_adaptive_weight_is_the_ratio_of_whole_gradients(bound, slopes):
    _, terms = applied(objective(), bound)
    # Sums of some thousand float32 products, in another order.
    wanted = ratio_by_hand(slopes)
    np.testing.assert_allclose(terms["adaptive_weight"], wanted, rtol=1e-4)
    assert wanted > 2
    _, clipped = applied(objective(most=wanted / 2), bound)
    np.testing.assert_allclose(clipped["adaptive_weight"], wanted / 2, rtol=EPS)
    _, fixed = applied(objective(adaptive=False), bound)
    assert fixed["adaptive_weight"] == 1


def test_the_adaptive_weight_has_no_slope(bound, slopes):
    """The gradient is that of terms with a constant in the weight's place."""
    model, variables, batch = bound
    pure = nn.apply(
        objective(adversarial=0.5, bottleneck=BottleneckTerms(nothing, nothing)),
        model,
        mutable=["batch_stats"],
    )

    def loss(params):
        return pure({**variables, "params": params}, batch, KEY)[0][0]

    found = jax.jit(jax.grad(loss))(variables["params"])["decoder"]
    factor = 0.5 * ratio_by_hand(slopes)
    near, fool = (s["decoder"] for s in slopes)
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(found))
    for a, b, c in zip(*map(jax.tree.leaves, (found, near, fool)), strict=True):
        np.testing.assert_allclose(a, b + factor * c, atol=1e-4 * largest)


def nothing(*arguments):
    """No terms."""
    return {}


def test_no_layer_but_the_last_is_differentiated_for_the_weight(bound):
    """Convolutions of the backward pass: of the critic and of one kernel, no more."""
    model, variables, batch = bound

    def counted(function):
        pure = nn.apply(function, model, mutable=["batch_stats"])
        text = str(jax.make_jaxpr(pure)(variables, batch, KEY))
        return text.count("conv_general_dilated[")

    z = jnp.zeros((1, 6, 8, 8, 2))

    def decoded(model, batch, key):
        x = model.decode(z, batch).mean[0]
        return model.critic(x, batch).score

    def ratio(model, batch, key):
        return slope_ratio(model, z, batch, None, HINGE)

    # Both slopes pass forward; the kernel's slope twice, the critic's three
    # convolutions once more to their inputs; nothing through the decoder's body.
    forward, of_critic = counted(decoded), 3
    decoder = forward - of_critic
    assert counted(ratio) == 2 * decoder + of_critic + 2 + of_critic


@pytest.mark.devices
def test_devices_that_share_a_batch_have_the_weight_of_the_whole(bound):
    """By hand, under shard_map; the critic's norm is of the whole batch, too."""
    model, variables, batch = bound
    batch = {"x": jnp.concatenate([batch["x"]] * 2)[:8]}
    z = jax.random.normal(KEY, (1, 8, 8, 8, 2))
    variables, z, batch = jax.tree.map(np.asarray, (variables, z, batch))

    def ratio(variables, z, batch):
        def of(model):
            return slope_ratio(model, z, batch, PERCEIVED, HINGE)

        return nn.apply(of, model, mutable=["batch_stats"])(variables)[0]

    wanted = jax.jit(ratio)(variables, z, batch)
    mesh = parallel.make_mesh(4, 8)
    specs = (P(), P(None, AXIS), P(AXIS))
    shared = jax.shard_map(
        lambda v, z, b: jax.lax.pmean(ratio(varying(v), z, b), AXIS),
        mesh=mesh,
        in_specs=specs,
        out_specs=P(),
    )
    np.testing.assert_allclose(jax.jit(shared)(variables, z, batch), wanted, rtol=1e-4)


def varying(tree):
    """Parameters as a player's own are in a step of shard_map: each device's."""
    return jax.tree.map(lambda a: jax.lax.pcast(a, AXIS, to="varying"), tree)


@pytest.mark.parametrize("critic", [False, True])
def test_without_critic_and_features_it_is_the_vae(bound, critic):
    """The same loss and the same gradients as `elbo`, also before a critic starts."""
    model, variables, batch = bound
    ours = objective(
        bottleneck=kl_bottleneck(0.7),
        perceived=None,
        loss=HINGE if critic else None,
        adversarial=0.0,
    )

    def value(function):
        pure = nn.apply(function, model, mutable=["batch_stats"])

        def loss(params):
            return pure({**variables, "params": params}, batch, KEY)[0]

        found = jax.jit(jax.value_and_grad(loss, has_aux=True))
        return found(variables["params"])

    (loss, terms), gradient = value(ours)
    (wanted, expected), slope = value(partial(objectives.elbo, beta=0.7))
    np.testing.assert_allclose(loss, wanted, rtol=8 * EPS)
    for name in ("elbo", "distortion", "rate", "kl"):
        np.testing.assert_allclose(terms[name], expected[name], rtol=8 * EPS)
    for part in ("encoder", "decoder"):
        pairs = zip(*map(jax.tree.leaves, (gradient[part], slope[part])), strict=True)
        for a, b in pairs:
            np.testing.assert_allclose(a, b, atol=1e-5 * max(1, np.abs(b).max()))


def test_the_loss_is_the_sum_of_its_terms(bound):
    loss, terms = applied(objective(adversarial=0.5), bound)
    parts = ("distortion", "perceptual", "rate", "style")
    np.testing.assert_allclose(loss, sum(terms[n] for n in parts), rtol=8 * EPS)
    assert terms["style"] != 0
    bits = terms["kl"] / np.log(2) / 64
    np.testing.assert_allclose(terms["bits_per_pixel"], bits, rtol=8 * EPS)
    np.testing.assert_allclose(terms["rate"], 1e-3 * terms["kl"], rtol=8 * EPS)


FOUR_SIGNS = {"bottleneck": "lfq", "codes": 16, "code_channels": 64}
SIGNS = np.array([*itertools.product((-1.0, 1.0), repeat=4)])
SCALARS = {"bottleneck": "fsq", "channel_values": (4, 3), "code_entropy": 0.1}
SCALARS |= {"codes": 512, "code_channels": 64}
# Channels of these lie in [-1, 0.5] and [-1, 1]: in steps their values are integers.
GRID = np.array([*itertools.product((-2.0, -1, 0, 1), (-1.0, 0, 1))])


@pytest.mark.parametrize(
    ("settings", "squares", "entropies", "codes", "steps"),
    [
        ({}, 1.25, 0.0, SIGNS, (1.0,) * 4),
        (FOUR_SIGNS, 0.25, 0.1, SIGNS, (1.0,) * 4),
        (SCALARS, 0.0, 0.1, GRID, (2.0, 1.0)),
    ],
)
def test_codes_weigh_as_means_beside_the_mean_error_of_a_pixel(
    bound, settings, squares, entropies, codes, steps
):
    """loss / 64 = mean |x' - y| + mean |sg[h] - e|^2 + 0.25 mean |h - sg[e]|^2, of
    signs without the second of these and of finite scalars without both; where asked
    for with a tenth of the mean over positions of H(c | h) less H(mean), in which a
    code at the squared distance d has a mass of exp(-d).
    """
    experiment = tiny(presets.vqgan, adversarial_weight=0.0, **settings)
    state = first_state(experiment, parallel.make_mesh(1, 16))
    (player,) = experiment.players.values()
    variables = {"params": state.params, **state.stats}

    def by_hand(model, batch, key):
        i = infer(model, batch, key)
        q = i.latents["z"].q
        error = jnp.abs(2 * batch["x"] - 1 - (2 * i.px.mean[0] - 1)).mean()
        wanted = error + squares * jnp.square(q.inputs - q.entries[..., 0, :]).mean()
        if entropies:
            away = q.inputs[..., None, :] * jnp.reshape(jnp.array(steps), lead)
            away = away - codes.reshape(1, 1, 1, *codes.shape)
            p = jnp.exp(-jnp.square(away).sum(-1))
            p = p / p.sum(-1, keepdims=True)
            each, whole = entropy_of(p).mean(), entropy_of(p.mean((0, 1, 2)))
            wanted += entropies * (each - whole)
        return player.objective(model, batch, key)[0] / 64, wanted

    lead = (1, 1, 1, 1, -1)

    def entropy_of(p):
        return -(p * jnp.log(p)).sum(-1)

    both = jax.jit(nn.apply(by_hand, experiment.model))
    found, wanted = both(variables, bound[2], KEY)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_errors_are_those_of_pixels_between_minus_one_and_one():
    rng = np.random.default_rng(0)
    x, y = rng.random((5, 3)), rng.normal(size=(5, 3))
    batch = {"x": jnp.float32(x)}
    one = AbsoluteError()(jnp.float32(y), batch).log_prob(batch["x"])
    np.testing.assert_allclose(-one, np.abs(2 * x - 1 - y), atol=20 * EPS)
    two = SquaredError()(jnp.float32(y), batch).log_prob(batch["x"])
    wanted = np.square(2 * x - 1 - y) + np.log(np.pi / 4) / 2
    np.testing.assert_allclose(-two, wanted, atol=50 * EPS)


def test_the_critic_starts_at_its_step_and_counts_from_there():
    """Before it the loss has none of it, which then is that of a VAE (above)."""
    settings = {"critic_start": 5, "adversarial_weight": 0.5}
    players = tiny(**settings, critic_moves=2).players
    gates = [players[name].gate for name in ("critic", "autoencoder")]
    assert [[bool(g(n, {})) for g in gates] for n in (4, 5, 6, 7)] == [
        [False, True],
        [True, True],
        [True, False],
        [True, True],
    ]
    weights = [players["autoencoder"].schedules["adversarial"](n) for n in (0, 4, 5)]
    np.testing.assert_array_equal(weights, [0, 0, 0.5])
    later = tiny(**settings, critic_warm_up=3).players
    weights = [later["autoencoder"].schedules["adversarial"](n) for n in (5, 7, 8)]
    np.testing.assert_array_equal(weights, [0, 0, 0.5])
    gate = later["critic"].gate
    assert [bool(gate(n, {})) for n in (4, 5, 8)] == [False, True, True]
    assert tiny(critic_start=0).players["critic"].gate is None


REFUSED = [
    ({"attention": (5,)}, "maps are 8, 4 high"),
    ({"critic_start": 89}, "after the last of 89: set an earlier"),
    ({"perceptual_weight": 2.0}, "needs --perceptual or --lpips"),
    ({"perceptual": "a", "lpips": "b"}, "give one of them"),
    ({"codes": 16}, "--codes is only for --bottleneck vq or rvq or lfq"),
    ({"multipliers": (1, 1, 1, 1, 1)}, "does not divide by 16"),
    ({"dataset": "breast_cancer"}, "AbsoluteError does not fit real data"),
    ({"bottleneck": "fsq", "kl_weight": 0.1}, "only for --bottleneck kl: choose it"),
    ({"width": 0}, "width"),
    ({"multipliers": ()}, "multipliers"),
    ({"adversarial_weight": -1.0}, "adversarial_weight|adversarial-weight"),
    ({"critic_layers": 2}, "at least 12 pixels"),
]


@pytest.mark.parametrize(("settings", "says"), REFUSED)
def test_settings_that_do_not_fit_are_one_line(settings, says):
    with pytest.raises(InputError, match=says) as caught:
        tiny(**settings)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory):
    """Two runs of a classifier, by other seeds."""
    paths = [tmp_path_factory.mktemp("judges") / str(seed) for seed in (0, 1)]
    for seed, path in enumerate(paths):
        settings = {"hidden": (8,), "epochs": 1, "batch_size": 256, "seed": seed}
        judge = presets.classifier(dataset="digits", **settings)
        vaejax.train(judge, path, quiet=True)
    return paths


def test_a_frozen_network_is_recorded_and_no_part_of_the_run(classifiers, tmp_path):
    """A run goes on with the same weights, refuses others, and is loaded without."""
    place, run = tmp_path / "judge", tmp_path / "run"
    make = partial(tiny, adversarial_weight=0.0, perceptual=str(place))
    shutil.copytree(classifiers[0], place)
    claim(run, make())
    (run / "metrics.jsonl").touch()  # it has trained, so it is not replaced
    claim(run, make())
    digest = read_config(run)["frozen"]["perceptual"]
    assert digest in make().frozen["perceptual"].check()
    shutil.rmtree(place)
    with pytest.raises(InputError, match="judge is not a run"):
        open_frozen(make())
    with pytest.raises(InputError, match="judge is not a run"):
        vaejax.train(make(), run, quiet=True)
    again = recorded_experiment(run)
    assert config_of(again) == read_config(run)
    assert set(parallel.abstract_state(again).params) == {"encoder", "decoder"}
    shutil.copytree(classifiers[1], place)
    with pytest.raises(InputError, match=f"weights of perceptual {place} have changed"):
        claim(run, make())
    with pytest.raises(InputError, match=f"the run began with {digest}") as caught:
        open_frozen(again)
    assert "\n" not in str(caught.value)
