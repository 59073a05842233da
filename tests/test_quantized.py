"""Quantized autoencoders: codebooks, losses by hand, usage, starts, and settings."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import vaejax
from vaejax import InputError, objectives, parallel
from vaejax.distributions.codes import Quantized
from vaejax.metrics import code_usage
from vaejax.models import FiniteQuantizer, SignQuantizer, VectorQuantizer
from vaejax.nn import codebooks as cb
from vaejax.nn.finite import MARGIN
from vaejax.nn.strided import DoublingConv, HalvingConv
from vaejax.objectives.quantized import certainty
from vaejax.presets.bottlenecks import CodeBottleneck
from vaejax.training.loop import first_state

KEY = jax.random.key(3)
EPS = np.finfo(np.float32).eps
SIZE, CHANNELS = 6, 3
H = jax.random.normal(jax.random.key(0), (4, 2, 3, CHANNELS))
POINTS = np.float64(H).reshape(-1, CHANNELS)
SMALL = {"dataset": "digits", "batch_size": 16, "epochs": 1, "width": 8, "inner": 4}
SMALL |= {"blocks": 1, "likelihood": "gaussian_fixed"}


def made(**settings):
    """A quantizer and its first variables."""
    quantizer = VectorQuantizer(SIZE, CHANNELS, **settings)
    return quantizer, quantizer.init(KEY, H)


def nearest(points, book):
    return np.square(points[:, None] - np.float64(book)[None]).sum(-1).argmin(-1)


def test_a_moving_codebook_without_memory_takes_a_step_of_lloyd():
    quantizer, before = made(decay=0.0)
    q, after = quantizer.apply(before, H, mutable=["batch_stats"])
    book = before["batch_stats"]["codebook"][0]
    wanted = cb.lloyd_step(jnp.asarray(POINTS, jnp.float32), book)
    np.testing.assert_allclose(
        after["batch_stats"]["codebook"][0], wanted, atol=20 * EPS
    )
    # What the pass gives is of the codes before they moved.
    np.testing.assert_array_equal(q.codes.reshape(-1), nearest(POINTS, book))
    np.testing.assert_array_equal(q.entries[..., 0, :], book[q.codes[..., 0]])
    same = quantizer.apply(before, H)
    np.testing.assert_array_equal(same.values, q.values)


def test_a_moving_codebook_is_the_mean_of_what_it_has_seen():
    """Two passes with decay d weigh their points by d and 1, whatever it began with."""
    quantizer, variables = made(decay=0.5)
    codes, points = [], []
    for shift in (0.0, 0.3):
        q, variables = quantizer.apply(variables, H + shift, mutable=["batch_stats"])
        codes.append(np.asarray(q.codes).reshape(-1))
        points.append(POINTS + shift)
    for code, found in enumerate(variables["batch_stats"]["codebook"][0]):
        weight = np.concatenate([0.5 * (codes[0] == code), 1.0 * (codes[1] == code)])
        if weight.sum():
            wanted = weight @ np.concatenate(points) / weight.sum()
            np.testing.assert_allclose(found, wanted, atol=50 * EPS)


def test_dead_codes_are_revived_in_the_batch_and_counted():
    quantizer, variables = made(decay=0.9, revive=0.1)
    far = variables["batch_stats"]["codebook"].at[0, 2:].add(1000.0)
    variables = {"batch_stats": variables["batch_stats"] | {"codebook": far}}
    q, after = quantizer.apply(variables, H, mutable=["batch_stats"])
    used = len(np.unique(q.codes))
    assert int(q.revived) == SIZE - used >= 4
    book = np.asarray(after["batch_stats"]["codebook"][0])
    for code in set(range(SIZE)) - set(np.unique(q.codes)):
        assert np.abs(POINTS - book[code]).max(-1).min() < 4 * EPS
    counts = np.asarray(after["batch_stats"]["counts"][0])
    assert counts.min() > 0 and after["batch_stats"]["passes"] == 1
    assert quantizer.apply(variables, H).revived == 0  # where nothing may move


def test_levels_quantize_what_those_before_left_over():
    quantizer, variables = made(levels=3)
    q = quantizer.apply(variables, H)
    rest = POINTS.copy()
    for level, book in enumerate(variables["params"]["codebook"]):
        codes = nearest(rest, book)
        np.testing.assert_array_equal(q.codes[..., level].reshape(-1), codes)
        np.testing.assert_allclose(
            q.residuals[..., level, :].reshape(-1, CHANNELS), rest, atol=10 * EPS
        )
        rest -= np.float64(book)[codes]
    np.testing.assert_allclose(
        q.values.reshape(-1, CHANNELS), POINTS - rest, atol=10 * EPS
    )
    again = quantizer.apply(variables, q.codes, method="values_of")
    np.testing.assert_allclose(again, q.values, atol=4 * EPS)


def test_normalized_codes_are_nearest_by_angle():
    quantizer, variables = made(normalized=True)
    q = quantizer.apply(variables, 7 * H)
    book = np.float64(variables["params"]["codebook"][0])
    cosines = POINTS @ (book / np.linalg.norm(book, axis=-1, keepdims=True)).T
    np.testing.assert_array_equal(q.codes.reshape(-1), cosines.argmax(-1))
    np.testing.assert_allclose(np.linalg.norm(q.values, axis=-1), 1, atol=8 * EPS)


def experiment_of(**settings):
    settings = {"codes": 8, "code_channels": 4, **SMALL, **settings}
    return vaejax.presets.vqvae(**settings)


def batch_of(experiment, rows=5):
    spec, x = experiment.dataset.spec, experiment.dataset.split("train")["x"][:rows]
    x = np.float32(x).reshape(-1, *spec.shape)
    return {"x": jnp.asarray(x / (spec.levels - 1))}


def verbs_of(experiment):
    """Compiled: encode, decode, and the values of codes."""
    return [
        parallel.compile_verb(experiment.model, verb)
        for verb in ("encode", "decode", "values_of")
    ]


@pytest.fixture(scope="module")
def learned():
    """A small vqvae with a codebook of gradients: its parts, bound to a batch."""
    experiment = experiment_of()
    batch = batch_of(experiment)
    objective = experiment.players["vae"].objective
    variables = jax.jit(nn.init(objective, experiment.model))(KEY, batch, KEY)
    return experiment, objective, variables, batch


def test_the_elbo_is_the_likelihood_less_the_logarithm_of_all_maps(learned):
    experiment, objective, variables, batch = learned
    loss, terms = jax.jit(nn.apply(objective, experiment.model))(variables, batch, KEY)
    encode, decode, values_of = verbs_of(experiment)
    z = values_of(variables, encode(variables, batch).codes)
    px = decode(variables, z[None], batch)
    log_px = px.log_prob(batch["x"][None])[0].sum((1, 2, 3)).mean()
    wanted = float(log_px) - 2 * 2 * math.log(8)  # 8 x 8 pixels are 2 x 2 codes
    assert abs(float(terms["elbo"]) - wanted) < 20 * EPS * abs(wanted)
    assert abs(terms["bits_per_pixel"] - 4 * 3 / 64) < 10 * EPS
    parts = sum(float(terms[n]) for n in ("distortion", "commitment", "codebook"))
    assert abs(float(loss) - parts) < 8 * EPS * abs(parts)
    # The gap of a point mass: one draw is the marginal likelihood of its map of codes.
    many = nn.apply(lambda m: vaejax.infer(m, batch, KEY, 3), experiment.model)
    i = jax.jit(many)(variables)
    np.testing.assert_allclose(i.log_w, i.log_px - 4 * math.log(8), rtol=8 * EPS)


def test_gradients_of_codes_and_encodings_are_those_by_hand(learned):
    """A code has 2 sum (e - h) over the encodings nearest to it; an encoding has
    2 beta (h - e) and, straight through, the slope of the distortion at its code.
    """
    experiment, objective, variables, batch = learned
    model, rows = experiment.model, len(batch["x"])

    def with_params(change):
        params = dict(variables["params"])
        params |= change
        return {"params": params}

    def loss(book):
        changed = with_params({"quantizer": {"codebook": book}})
        return nn.apply(objective, model)(changed, batch, KEY)[0]

    book = variables["params"]["quantizer"]["codebook"]
    encode, decode, _ = verbs_of(experiment)
    q = encode(variables, batch)
    points = np.float64(q.inputs).reshape(-1, 4)
    codes = np.asarray(q.codes).reshape(-1)
    wanted = np.zeros((8, 4))
    np.add.at(wanted, codes, 2 * (np.float64(book)[0][codes] - points) / rows)
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(book)[0], wanted, atol=1e-6)

    def distortion(z):
        px = decode(variables, z[None], batch)
        return -px.log_prob(batch["x"][None]).sum() / rows

    def of_shift(bias):
        dense = variables["params"]["encoder"]["Dense_0"] | {"bias": bias}
        encoder = variables["params"]["encoder"] | {"Dense_0": dense}
        changed = with_params({"encoder": encoder})
        return nn.apply(objective, model)(changed, batch, KEY)[0]

    # The bias of the last layer shifts each encoding alike.
    slope = np.float64(jax.jit(jax.grad(distortion))(q.values)).reshape(-1, 4)
    each = 2 * 0.25 * (points - np.float64(book)[0][codes]) / rows + slope
    bias = variables["params"]["encoder"]["Dense_0"]["bias"]
    np.testing.assert_allclose(
        jax.jit(jax.grad(of_shift))(bias), each.sum(0), rtol=1e-4
    )


def test_the_entropies_of_soft_choices_are_those_of_all_codes():
    """By enumeration; of choices that do not depend on x the two cancel."""
    quantizer = SignQuantizer(CHANNELS, softness=1.5)
    q = quantizer.apply({}, H)
    book = np.float64(quantizer.table(jnp.arange(8)[:, None]))
    p = np.exp(-np.square(POINTS[:, None] - book[None]).sum(-1) / 1.5)
    p /= p.sum(-1, keepdims=True)
    mean = p.mean(0)
    gap = -(p * np.log(p)).sum(-1).mean() + (mean * np.log(mean)).sum()
    assert abs(float(certainty(q)) - 6 * gap) < 200 * EPS  # 2 x 3 positions
    same = quantizer.apply({}, jnp.broadcast_to(H[:1, :1, :1], H.shape))
    assert abs(float(certainty(same))) < 200 * EPS
    # A codebook whose codes are signs has the same soft choices.
    learned = VectorQuantizer(8, CHANNELS, softness=1.5)
    alike = learned.apply({"params": {"codebook": jnp.float32(book)[None]}}, H)
    assert abs(float(certainty(alike)) - 6 * gap) < 200 * EPS
    # So has one of the values of a grid, whose steps are its distances.
    grid = FiniteQuantizer((4, 3, 2), softness=1.5)
    q = grid.apply({}, H)
    steps = jnp.asarray([2.0, 1, 1])
    book = grid.table(jnp.arange(24)[:, None]) * steps[None]
    learned = VectorQuantizer(24, CHANNELS, softness=1.5)
    steps = steps[None, None, None]
    alike = learned.apply({"params": {"codebook": book[None]}}, q.inputs * steps)
    assert abs(float(certainty(alike) - certainty(q))) < 200 * EPS
    with pytest.raises(TypeError, match="softness"):
        certainty(Quantized(H, H[..., None, :], q.codes))


def test_usage_over_a_split_does_not_depend_on_its_batches(learned):
    experiment, _, variables, batch = learned
    metric = code_usage(8)
    parts = [{"x": x, "weight": jnp.ones(len(x))} for x in jnp.split(batch["x"], [2])]
    parts[1]["weight"] = parts[1]["weight"].at[-1].set(0.0)  # padding
    acc, update = metric.init(), jax.jit(metric.update, static_argnums=1)
    for part in parts:
        acc = update(acc, experiment.model, variables, part, KEY)
    codes = verbs_of(experiment)[0](variables, batch).codes[:-1]
    share = np.bincount(np.asarray(codes).reshape(-1), minlength=8) / codes.size
    found = metric.compute(acc)
    assert found["usage"] == np.mean(share > 0)
    seen = share[share > 0]
    wanted = math.exp(-(seen * np.log(seen)).sum())
    assert abs(found["perplexity"] - wanted) < 50 * EPS * wanted
    assert abs(found["even_usage"] - wanted / 8) < 50 * EPS


@pytest.mark.parametrize("codebook", ["gradient", "ema"])
def test_codes_can_begin_as_centres_of_encodings(codebook):
    experiment = experiment_of(codebook=codebook, code_start="kmeans", ema=0.9)
    state = first_state(experiment, parallel.make_mesh(1, 16))
    variables = {"params": state.params, **state.stats}
    q = verbs_of(experiment)[0](variables, batch_of(experiment, 32))
    assert len(np.unique(q.codes)) == 8
    # 8 centres leave less than half of the variance; random codes miss all of it.
    rest = np.square(q.inputs - q.values).sum(-1).mean()
    assert rest < 0.5 * np.var(q.inputs, (0, 1, 2)).sum()
    if codebook == "ema":
        counts = state.stats["batch_stats"]["quantizer"]["counts"]
        assert abs(counts.sum() - 16 * 4) < 1e-3  # as many as a batch has
    else:
        jax.tree.map(np.testing.assert_array_equal, state.ema, state.params)


@pytest.mark.parametrize(
    "grid",
    [
        {"bottleneck": "fsq", "channel_values": (3, 3, 3)},
        {"bottleneck": "lfq", "codes": 8},
    ],
)
def test_channels_can_begin_uncorrelated_over_the_first_encodings(grid):
    experiment = vaejax.presets.vqvae(**SMALL, **grid, code_start="whitened", ema=0.9)
    state = first_state(experiment, parallel.make_mesh(1, 16))
    jax.tree.map(np.testing.assert_array_equal, state.ema, state.params)
    count = -(-16 * experiment.model.quantizer.size // 4)
    inputs = verbs_of(experiment)[0](
        {"params": state.params, **state.stats}, batch_of(experiment, count)
    ).inputs
    if grid["bottleneck"] == "fsq":
        inputs = np.arctanh(inputs / np.float64(1 - MARGIN))  # of odd numbers of values
    h = np.float64(inputs).reshape(-1, 3)
    np.testing.assert_allclose(h.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(h.T, bias=True), np.eye(3), atol=1e-3)


@pytest.mark.devices
def test_devices_that_part_a_batch_move_one_codebook():
    quantizer, variables = made(decay=0.5, revive=0.5)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def moved(variables, h):
        _, after = quantizer.apply(variables, h, mutable=["batch_stats"])
        return after["batch_stats"]["counts"], after["batch_stats"]["codebook"]

    split = jax.jit(
        jax.shard_map(moved, mesh=mesh, in_specs=(P(), P("data")), out_specs=(P(), P()))
    )
    counts, book = split(variables, H)
    wanted, whole = moved(variables, H)
    np.testing.assert_allclose(counts, wanted, atol=8 * EPS)
    used = 0.5 * np.bincount(np.asarray(quantizer.apply(variables, H).codes).ravel())
    used = np.pad(used, (0, SIZE - len(used)))
    alive = used >= 0.5 * used.mean()
    assert not alive.all()
    np.testing.assert_allclose(book[0][alive], whole[0][alive], atol=50 * EPS)
    for code in np.asarray(book[0])[~alive]:
        assert np.abs(POINTS - code).max(-1).min() < 4 * EPS


def by_pixels(x, kernel):
    """A 4x4 convolution of stride 2, padded by 1, in loops."""
    x = np.pad(np.float64(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows, columns = (x.shape[1] - 2) // 2, (x.shape[2] - 2) // 2
    found = np.zeros((len(x), rows, columns, kernel.shape[-1]))
    for i, j in np.ndindex(rows, columns):
        window = x[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4]
        found[:, i, j] = np.einsum("nabc,abco->no", window, kernel)
    return found


def test_convolutions_that_halve_and_double_are_strided_ones():
    x = jax.random.normal(KEY, (2, 8, 12, 3))
    layer = HalvingConv(5)
    variables = layer.init(KEY, x)
    blocks = np.float64(variables["params"]["Conv_0"]["kernel"])  # [2, 2, 4 C, o]
    kernel = blocks.reshape(2, 2, 2, 2, 3, 5).transpose(0, 2, 1, 3, 4, 5)
    wanted = by_pixels(x, kernel.reshape(4, 4, 3, 5))
    np.testing.assert_allclose(layer.apply(variables, x), wanted, atol=100 * EPS)
    # Doubling is the transpose of halving: <double(u), v> = <u, halve(v)>, whose
    # kernel has the 2x2 windows reversed.
    u = jax.random.normal(KEY, (2, 4, 6, 5))
    double = DoublingConv(3)
    reverse = blocks[::-1, ::-1].transpose(0, 1, 3, 2)
    params = {"kernel": jnp.float32(reverse), "bias": jnp.zeros(12)}
    found = double.apply({"params": {"Conv_0": params}}, u)
    assert found.shape == x.shape
    left = np.vdot(np.float64(found), np.float64(x))
    assert abs(left - np.vdot(np.float64(u), wanted)) < 1e-4


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"bottleneck": "fsq", "codes": 9}, "--codes is only for --bottleneck vq or"),
        ({"channel_values": (3, 3)}, "--channel-values is only for --bottleneck fsq"),
        ({"bottleneck": "lfq", "codes": 100}, "no power of 2.* choose 64 or 128"),
        ({"revive": 0.1}, "--revive needs --codebook ema"),
        ({"codebook": "ema", "codebook_weight": 2.0}, "needs --codebook gradient"),
        ({"bottleneck": "fsq", "channel_values": (3, 1)}, "at least 2 values"),
        ({"bottleneck": "fsq", "channel_values": (999,) * 3}, "at most 16,777,216"),
        ({"bottleneck": "rvq", "normalized_codes": True}, "only for --bottleneck vq"),
        ({"codes": 1}, "at least 2"),
        ({"code_start": "whitened"}, "whitened is only for --bottleneck fsq or lfq"),
        ({"bottleneck": "fsq", "code_start": "kmeans"}, "only for .* vq or rvq"),
        ({"bottleneck": "fsq", "softness": 0.5}, "--softness needs --code-entropy"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(settings, says):
    with pytest.raises(InputError, match=says) as caught:
        CodeBottleneck(**settings)
    assert "\n" not in str(caught.value)


def test_images_that_do_not_divide_and_tables_are_one_line():
    odd = vaejax.from_arrays(np.zeros((20, 6, 8, 1), np.uint8), name="odd")
    with pytest.raises(InputError, match="6 x 8, which does not divide by 4"):
        vaejax.presets.vqvae(dataset=odd, likelihood="bernoulli")
    with pytest.raises(InputError, match="images"):
        vaejax.presets.fsq(dataset="breast_cancer")
    with pytest.raises(InputError, match="encodings for 8,000 codes"):
        experiment_of(codes=8000, code_start="kmeans")


def test_one_level_of_residuals_is_a_codebook(learned):
    experiment, objective, variables, batch = learned
    other = experiment_of(bottleneck="rvq", code_levels=1)
    own = other.players["vae"].objective
    assert own.func is objectives.quantization
    pair = [(experiment.model, objective), (other.model, own)]
    one, two = (jax.jit(nn.apply(o, m))(variables, batch, KEY)[0] for m, o in pair)
    assert float(one) == float(two)
