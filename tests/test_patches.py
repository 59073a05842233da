"""Critics of patches: their network, and games on maps of scores."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaejax import InputError, evaluate, from_arrays, objectives, presets, train
from vaejax.metrics import critic_scores
from vaejax.models import CriticNetwork, CriticVAE, Critique, Label, StandardNormal
from vaejax.models.critic import critique
from vaejax.nn.layers import bodies_in
from vaejax.nn.patches import PatchBody, least_patch_side, patch_widths

adversarial = objectives.adversarial
RNG = np.random.default_rng(0)
SHAPE, KEY = (8, 9, 2), jax.random.key(1)
X = jnp.asarray(RNG.normal(size=(4, *SHAPE)), jnp.float32)
BODY = PatchBody(patch_widths(4, 1))


def count(variables):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(variables))


def test_the_discriminator_of_latent_diffusion_has_its_size():
    """By hand: 4x4 kernels 3-64-128-256-512-1, biases where no batch norm follows, and
    scale and shift of three norms; pix2pix's, of six channels, has 2,768,705.
    """
    model = CriticNetwork(PatchBody(norm="batch"), norm="batch", patches=True)
    blank = jnp.zeros((1, 256, 256, 3))
    shapes = jax.eval_shape(partial(model.init, KEY), blank, {"x": blank})
    kernels = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512)
    assert kernels + 64 + 1 + 2 * (128 + 256 + 512) == 2_765_633
    assert count(shapes["params"]) == 2_765_633
    assert 2_765_633 + 16 * 3 * 64 == 2_768_705
    out = jax.eval_shape(model.apply, shapes, blank, {"x": blank})
    assert out.score.shape == (1, 30, 30)
    assert [f.shape[1] for f in out.features] == [256, 128, 64, 32, 31]


def test_a_place_sees_seventy_pixels():
    """[Isola et al. 2017]: of one score, the gradient by the image is 70 x 70 wide."""
    model = CriticNetwork(PatchBody(patch_widths(1, 3), activation=lambda x: x))
    model = model.clone(patches=True)
    image = jnp.zeros((1, 112, 112, 1))
    variables = model.init(KEY, image, {"x": image})
    middle = jax.grad(lambda x: model.apply(variables, x, {"x": x}).score[0, 6, 6])
    seen = np.argwhere(np.asarray(middle(image))[0, :, :, 0])
    assert (np.ptp(seen, axis=0) + 1).tolist() == [70, 70]


@pytest.mark.parametrize("layers", [1, 2])
def test_the_least_image_has_one_score(layers):
    side = least_patch_side(layers)
    body = PatchBody(patch_widths(1, layers))
    model = CriticNetwork(body, patches=True)

    def score(side):
        blank = jax.ShapeDtypeStruct((2, side, side, 1), jnp.float32)
        found = jax.eval_shape(
            partial(model.init_with_output, KEY), blank, {"x": blank}
        )
        return found[0].score.shape

    assert score(side) == (2, 1, 1)
    assert score(side - 1) == (2, 0, 0)


# --- a 1x1 map of scores is a score ------------------------------------------------


class Judge(nn.Module):
    """A critic of two layers, whose score has `places` further axes of size 1."""

    places: int = 0

    @nn.compact
    def __call__(self, x, batch):
        h = nn.tanh(nn.Dense(5)(x.reshape(len(x), -1)))
        score = nn.Dense(1)(h)[:, 0]
        return critique(score.reshape(-1, *(1,) * self.places), (x, h))


class Fixed(nn.Module):
    """Subjects that no model makes."""

    critic: nn.Module


def subjects(model, batch, key):
    del model, key
    return adversarial.Subjects(
        batch["x"], {"a": batch["x"][::-1] + 1, "b": -batch["x"]}
    )


def both(run):
    """`run(model, variables)` for a scalar critic, and for one with a map of 1x1."""
    models = [Fixed(Judge(places)) for places in (0, 2)]
    params = nn.init(lambda m: m.critic(X, {}), models[0])(KEY)
    return [run(model, params) for model in models]


@pytest.mark.parametrize("name", adversarial.LOSSES)
def test_losses_and_diagnostics_of_a_map_of_one_place_are_those_of_a_score(name):
    """All terms of the critic, its gradient, and the generator's loss: to the bit but
    for the order of sums, in float32.
    """
    shown = {"loss": adversarial.LOSSES[name], "subjects": subjects}
    of_critic = partial(adversarial.critic, **shown, gradient_penalty=10.0, r1=3.0)

    def run(model, params):
        def loss(params):
            return nn.apply(of_critic, model)(params, {"x": X}, KEY)

        (_, terms), slope = jax.value_and_grad(loss, has_aux=True)(params)
        fool = nn.apply(partial(adversarial.generator, **shown), model)
        return terms, slope, fool(params, {"x": X}, KEY)

    one, other = both(run)
    assert one[0].keys() >= {"penalty", "r1", "accuracy", "gap"}
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), one, other)


def test_a_metric_of_a_map_of_one_place_is_that_of_a_score():
    metric = critic_scores(subjects)
    batch = {"x": X, "weight": jnp.asarray([1.0, 1, 1, 0])}

    def run(model, params):
        return metric.compute(metric.update(metric.init(), model, params, batch, KEY))

    one, other = both(run)
    assert one.keys() == other.keys() and np.isfinite(list(one.values())).all()
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), one, other)


def test_the_convolution_that_scores_a_map_of_two_is_a_dense_layer():
    """Its 4x4 window with padding of 1 sees the map in its middle."""
    whole = CriticNetwork(BODY, Label(3), projection=True)
    patches = whole.clone(patches=True)
    x, batch = (
        jnp.asarray(RNG.normal(size=(4, 6, 6, 2))),
        {"y": jnp.asarray([0, 1, 2, 1])},
    )
    variables = patches.init(KEY, x, batch)
    kernel = variables["params"]["Conv_0"]["kernel"]
    embedding = variables["params"]["Dense_0"]
    dense = {
        "body": variables["params"]["body"],
        "Dense_0": {"kernel": kernel[1:3, 1:3].reshape(-1, 1), "bias": jnp.zeros(1)},
        # The mean over the four places, in place of their sum.
        "Dense_1": {"kernel": jnp.tile(embedding["kernel"], 4) / 4},
    }
    found = patches.apply(variables, x, batch).score
    expected = whole.apply({"params": dense}, x, batch).score
    assert found.shape == (4, 1, 1)
    np.testing.assert_allclose(found[:, 0, 0], expected, rtol=1e-5, atol=1e-6)


# --- maps of more places -----------------------------------------------------------


def test_the_score_of_an_example_is_the_mean_of_its_map():
    score = jnp.asarray(RNG.normal(size=(4, 2, 3)), jnp.float32)
    np.testing.assert_allclose(
        Critique(score, ()).of_examples, np.asarray(score).mean((1, 2)), rtol=1e-6
    )
    np.testing.assert_array_equal(
        Critique(score[:, 0, 0], ()).of_examples, score[:, 0, 0]
    )


def test_slopes_of_a_linear_map_of_scores_are_known():
    """With no activation the mean score is linear in x: one gradient everywhere."""
    body = PatchBody(patch_widths(2, 1), activation=lambda x: x)
    critic = CriticNetwork(body, patches=True)
    model = Fixed(critic)
    params = nn.init(lambda m: m.critic(X, {}), model)(KEY)
    run = partial(
        adversarial.critic,
        loss=adversarial.LOSSES["wasserstein"],
        subjects=subjects,
        gradient_penalty=10.0,
        r1=3.0,
    )
    _, terms = nn.apply(run, model)(params, {"x": X}, KEY)

    def mean_score(x):
        apply = nn.apply(lambda m: m.critic(x[None], {}).score.mean(), model)
        return apply(params)

    basis = jnp.eye(int(np.prod(SHAPE))).reshape(-1, *SHAPE)
    at_zero = mean_score(jnp.zeros(SHAPE))
    slope = np.linalg.norm(jax.vmap(mean_score)(basis) - at_zero)
    assert terms["r1"] == pytest.approx(1.5 * slope**2, rel=1e-4)
    assert terms["penalty"] == pytest.approx(10 * (slope - 1) ** 2, rel=1e-4)


def test_batch_norm_leaves_scores_their_mean():
    """Real and fake batches are normalized apart: with a norm of its output, a critic
    could not give one a higher mean score than the other.
    """
    critic = CriticNetwork(BODY, norm="batch", patches=True)
    flat = presets.gan(
        dataset="digits", critic_norm="batch", r1=0.0, hidden=(8,), latents=2
    ).model.critic
    x = jnp.asarray(RNG.normal(size=(8, 8, 8, 1)), jnp.float32)
    for judge in (critic, flat):
        variables = judge.init(KEY, x, {"x": x})
        found = [
            judge.apply(variables, each, {"x": each}, mutable=["batch_stats"])[0]
            for each in (x, x**2)
        ]
        a, b = (np.asarray(each.score) for each in found)
        assert abs(a.mean() - b.mean()) > 1e-3 * a.std()


def test_scores_are_float32_of_a_body_in_bfloat16():
    """A score keeps digits that bfloat16 has not: the layer that scores is exact."""
    critic = CriticNetwork(BODY, patches=True)
    with bodies_in(jnp.bfloat16):
        judged, _ = critic.init_with_output(KEY, X, {"x": X})
    rounded = judged.score.astype(jnp.bfloat16).astype(jnp.float32)
    assert judged.score.dtype == jnp.float32 and (rounded != judged.score).mean() > 0.5
    inner = judged.features[1]
    np.testing.assert_array_equal(inner.astype(jnp.bfloat16).astype(jnp.float32), inner)


# --- presets -----------------------------------------------------------------------

TINY = {"dataset": "digits", "latents": 2, "hidden": (8,), "batch_size": 16}
PATCH = {"critic_body": "patch", "critic_channels": 4, "critic_layers": 1}


@pytest.fixture(scope="module")
def data():
    x = RNG.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    return from_arrays(x, np.arange(40) % 4)


def test_a_game_of_patches_trains_and_is_evaluated(data):
    experiment = presets.vaegan(
        **TINY | {"dataset": data}, **PATCH, layer=2, critic_norm="group", epochs=1
    )
    state = train(experiment, quiet=True, devices=1)
    assert isinstance(experiment.model, CriticVAE)
    assert isinstance(experiment.model.prior, StandardNormal)
    found = evaluate(experiment, state, samples=0)
    assert found["gap"] == pytest.approx(found["real_score"] - found["fake_score"])


REFUSED = [
    ("vaegan", PATCH | {"critic_layers": 2}, "at least 12 pixels: digits has 8"),
    ("vaegan", PATCH | {"layer": 3}, "the critic has layers 0 to 2"),
    ("vaegan", PATCH | {"dataset": "breast_cancer"}, "needs images"),
    ("vaegan", {"critic_norm": "group"}, "needs --critic-body patch"),
    ("aae", PATCH, "this one sees latents"),
    ("ali", PATCH, "this one sees pairs of an image and latents"),
    ("gan", PATCH | {"critic_layers": 0}, "--critic-layers is 0"),
]


@pytest.mark.parametrize(("name", "settings", "says"), REFUSED)
def test_what_does_not_fit_is_refused(name, settings, says):
    with pytest.raises(InputError, match=says):
        presets.PRESETS[name](**TINY | settings)
