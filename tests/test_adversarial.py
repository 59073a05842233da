"""Games with critics against what is known of them: equivalences and closed forms."""

import dataclasses
import os
import signal
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from vaejax import objectives, parallel, presets, train
from vaejax.data.preprocess import blank
from vaejax.distributions import Normal
from vaejax.errors import InputError
from vaejax.experiment import Player, TrainState
from vaejax.models import (
    CVAEGAN,
    VAE,
    Classifier,
    CriticNetwork,
    CriticVAE,
    Decoder,
    GaussianEncoder,
    Label,
    StandardNormal,
)
from vaejax.models import likelihoods as li
from vaejax.nn import networks as net
from vaejax.nn.layers import Spectral
from vaejax.purposes import OfData, OfObjective, OfRun, OfStep
from vaejax.runtime.preemption import Stopped
from vaejax.training.gating import equilibrium, every
from vaejax.training.loop import Diverged, first_state
from vaejax.training.recorder import Recorder
from vaejax.training.step import move, own_gradient, train_step

adversarial, larsen = objectives.adversarial, objectives.vaegan
SHAPE, LATENTS, CLASSES = (4, 4, 1), 3, 5
RNG = np.random.default_rng(0)
BATCH = {
    "x": jnp.asarray(RNG.uniform(size=(6, *SHAPE)), jnp.float32),
    "y": jnp.asarray([0, 1, 2, 3, 4, 0]),
}
KEY = jax.random.key(7)
EPS = float(np.finfo(np.float32).eps)


def encoder(condition=None):
    return GaussianEncoder(net.FlatEncoder(net.MLP((8,))), LATENTS, condition)


def decoder(likelihood, condition=None):
    return Decoder(net.FlatDecoder(net.MLP((8,)), SHAPE), likelihood, condition)


def critic(norm="none"):
    return CriticNetwork(
        net.FlatEncoder(net.MLP((8, 8), nn.tanh, norm=norm)), norm=norm
    )


def variables_for(model, *runs, batch=BATCH):
    def all_of(model):
        for run in runs:
            run(model, batch, KEY)

    return nn.init(all_of, model)(jax.random.key(0))


def graded(run, model, params, parts, batch=BATCH):
    """The loss, and its gradient in the named parts."""

    def loss(own):
        return nn.apply(run, model)({"params": params | own}, batch, KEY)[0]

    return jax.value_and_grad(loss)({part: params[part] for part in parts})


def assert_close(a, b, rtol=1e-5, atol=1e-6):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=rtol, atol=atol), a, b)


# --- scores and losses -------------------------------------------------------------


def best_score(loss, share):
    """The score that minimizes share * real(s) + (1 - share) * fake(s), on a grid."""
    s = jnp.linspace(-8, 8, 160_001)
    return s[jnp.argmin(share * loss.real(s) + (1 - share) * loss.fake(s))]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.7])
def test_the_best_critic_is_the_known_one(share):
    """p / (p + q) for the logistic loss, p for least squares, the sign for hinge.

    Near a minimum a float32 loss is flat over about the root of its rounding, 1e-3.
    """
    score = best_score(adversarial.LOSSES["logistic"], share)
    assert jax.nn.sigmoid(score) == pytest.approx(share, abs=1e-3)
    score = best_score(adversarial.LOSSES["least_squares"], share)
    assert score == pytest.approx(share, abs=2e-3)
    if share != 0.5:
        score = best_score(adversarial.LOSSES["hinge"], share)
        assert score == pytest.approx(np.sign(share - 0.5), abs=1e-3)


def test_at_equilibrium_the_best_critic_pays_log_four():
    """[Goodfellow et al. 2014, thm. 1]: p = q gives D = 1/2 and the value -log 4."""
    loss = adversarial.LOSSES["minimax"]
    s = best_score(loss, 0.5)
    assert loss.real(s) + loss.fake(s) == pytest.approx(np.log(4), abs=1e-6)


def test_a_trained_critic_finds_the_jensen_shannon_divergence():
    """Its loss is log 4 - 2 JS(p || q); here on two Gaussians, by quadrature."""
    from scipy.integrate import quad
    from scipy.stats import norm

    def integrand(x):
        p, q = norm.pdf(x), norm.pdf(x, 1.5)
        return p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q))

    expected = np.log(4) - quad(integrand, -12, 14)[0]
    # The optimal score is log p - log q, linear in x: logistic regression finds it.
    n = 20_000
    x = jnp.asarray(np.concatenate([RNG.normal(0, 1, n), RNG.normal(1.5, 1, n)]))
    loss = adversarial.LOSSES["logistic"]

    def cost(w):
        s = w[0] * x + w[1]
        return loss.real(s[:n]).mean() + loss.fake(s[n:]).mean()

    w, slopes = (
        jnp.zeros(2),
        jax.jit(lambda w: (jax.hessian(cost)(w), jax.grad(cost)(w))),
    )
    for _ in range(30):  # Newton's method
        w -= np.linalg.solve(*map(np.asarray, slopes(w)))
    # Monte Carlo error: two means of n terms whose deviation is below 1.
    assert cost(w) == pytest.approx(expected, abs=4 * np.sqrt(2 / n))


@pytest.mark.parametrize("name", adversarial.LOSSES)
def test_fooling_raises_the_score_of_fakes_and_confusing_lowers_real_ones(name):
    loss, s = adversarial.LOSSES[name], jnp.linspace(0.1, 0.9, 7)
    assert (jax.vmap(jax.grad(loss.fool))(s) < 0).all()
    assert (jax.vmap(jax.grad(loss.confuse))(s) > 0).all()
    assert (jax.vmap(jax.grad(loss.real))(s) < 0).all()
    assert (jax.vmap(jax.grad(loss.fake))(s) > 0).all()


def test_minimax_generators_pay_what_the_critic_gains():
    loss, s = adversarial.LOSSES["minimax"], jnp.linspace(-5, 5, 11)
    assert_close(loss.fool(s), -loss.fake(s))
    assert_close(loss.confuse(s), -loss.real(s))


def test_penalties_of_a_linear_critic_are_known():
    """Its slope is its weight vector everywhere."""
    model = CriticVAE(
        encoder(),
        decoder(li.Implicit()),
        CriticNetwork(net.FlatEncoder(net.MLP(()))),
        StandardNormal(LATENTS),
    )
    loss = adversarial.LOSSES["wasserstein"]
    run = partial(
        adversarial.critic,
        loss=loss,
        subjects=adversarial.generated,
        gradient_penalty=10.0,
        r1=3.0,
    )
    variables = variables_for(model, run)
    total, terms = nn.apply(run, model)(variables, BATCH, KEY)
    w = np.asarray(variables["params"]["critic"]["Dense_0"]["kernel"])
    norm = np.linalg.norm(w)
    assert terms["penalty"] == pytest.approx(10 * (norm - 1) ** 2, rel=1e-4)
    assert terms["r1"] == pytest.approx(1.5 * norm**2, rel=1e-5)
    named = ("loss_real", "loss_fake", "penalty", "r1")
    assert total == pytest.approx(float(sum(terms[n] for n in named)), rel=1e-6)


def test_the_gradient_penalty_reaches_the_critic():
    """Second derivatives by finite differences: through unbind, no gradient is lost."""
    model = CriticVAE(
        encoder(), decoder(li.Implicit()), critic(), StandardNormal(LATENTS)
    )
    run = partial(
        adversarial.critic,
        loss=adversarial.LOSSES["wasserstein"],
        subjects=adversarial.generated,
        gradient_penalty=10.0,
    )
    params = variables_for(model, run)["params"]
    _, gradient = graded(run, model, params, ("critic",))
    step = jax.tree.map(lambda a: jnp.asarray(RNG.normal(size=a.shape)), gradient)

    def at(t):
        own = jax.tree.map(lambda p, s: p + t * s, {"critic": params["critic"]}, step)
        return float(graded(run, model, params | own, ("critic",))[0])

    slope = sum(
        float(jnp.vdot(g, s))
        for g, s in zip(jax.tree.leaves(gradient), jax.tree.leaves(step), strict=True)
    )
    # Central differences: error of order t^2, and float32 rounding over 2 t.
    assert (at(1e-2) - at(-1e-2)) / 2e-2 == pytest.approx(slope, rel=2e-2)


@pytest.mark.parametrize("purposes", [OfRun, OfStep, OfData, OfObjective])
def test_no_two_purposes_of_a_key_are_equal(purposes):
    """Aliases would be missing among the members; keys of all purposes differ."""
    assert len(purposes) == len(purposes.__members__)
    keys = [jax.random.key_data(jax.random.fold_in(KEY, p)) for p in purposes]
    assert len({tuple(map(int, key)) for key in keys}) == len(purposes)


def test_the_draw_of_inference_is_the_first_purpose():
    first = jax.random.split(KEY, 1)[0]
    assert first == jax.random.fold_in(KEY, OfObjective.LATENT)


class Itself(nn.Module):
    """p(x | z) = N(z, I)."""

    def __call__(self, z, batch):
        return Normal(z, 1.0)


def test_noise_of_the_posterior_and_mixing_numbers_are_independent():
    """The first 100 of each, as ALI with a gradient penalty draws them."""
    count = 100
    zeros = {"x": jnp.zeros((count, 1))}

    game = CriticVAE(StandardNormal(1), Itself(), Itself(), StandardNormal(1))
    z = adversarial.paired(game, zeros, KEY).real[1][:, 0]
    ends = adversarial.Subjects(jnp.ones(count), {"prior": jnp.zeros(count)})
    share = adversarial.mixing_points(ends, KEY)
    rank = scipy.stats.spearmanr(z, share).statistic
    assert abs(rank) < 5 / np.sqrt(count)  # five standard errors of independent draws


def test_spectral_norm_is_one_after_power_iterations():
    layer = Spectral(nn.Dense(7, use_bias=False))
    x = jnp.eye(5)
    variables = layer.init(jax.random.key(0), x)
    for _ in range(60):
        w, stats = layer.apply(variables, x, mutable=["batch_stats"])
        variables = {**variables, **stats}
    assert np.linalg.norm(w, 2) == pytest.approx(1, abs=1e-3)
    assert_close(layer.apply(variables, x), w, rtol=1e-3)


# --- equivalences --------------------------------------------------------------------


def test_vaegan_with_identity_features_and_no_adversary_is_a_gaussian_vae():
    shared = {
        "encoder": encoder(),
        "decoder": decoder(li.GaussianFixed(1.0)),
        "prior": StandardNormal(LATENTS),
    }
    game, plain = CriticVAE(critic=critic(), **shared), VAE(**shared)
    encode = partial(larsen.encoder, layer=0)
    decode = partial(
        larsen.decoder,
        layer=0,
        loss=adversarial.LOSSES["logistic"],
        subjects=adversarial.rebuilt,
        adversarial=0.0,
    )
    params = variables_for(game, encode, decode)["params"]
    without = {part: params[part] for part in ("encoder", "decoder")}
    loss, expected = graded(objectives.elbo, plain, without, ("encoder", "decoder"))
    ours, moved = graded(encode, game, params, ("encoder",))
    assert ours == pytest.approx(float(loss), rel=1e-6)
    assert_close(moved["encoder"], expected["encoder"])
    _, moved = graded(decode, game, params, ("decoder",))
    assert_close(moved["decoder"], expected["decoder"])


def test_cvae_with_a_constant_label_is_a_vae():
    """Its label's weights are biases: folded into them, the VAE has the same loss."""
    label, prior = Label(CLASSES), StandardNormal(LATENTS)
    given = VAE(encoder(label), decoder(li.Bernoulli(), label), prior)
    plain = VAE(encoder(), decoder(li.Bernoulli()), prior)
    batch = BATCH | {"y": jnp.full(6, 2)}
    params = variables_for(given, objectives.elbo, batch=batch)["params"]
    params = jax.tree.map(lambda a: a + 0.1, params)  # biases start at zero

    def folded(part, inputs):
        mlp = dict(part["body"]["mlp"])
        kernel, bias = (mlp["Dense_0"][n] for n in ("kernel", "bias"))
        bias = bias + np.sqrt(CLASSES) * kernel[inputs + 2]
        mlp["Dense_0"] = {"kernel": kernel[:inputs], "bias": bias}
        return part | {"body": part["body"] | {"mlp": mlp}}

    without = {
        "encoder": folded(params["encoder"], 16),
        "decoder": folded(params["decoder"], LATENTS),
    }
    ours, _ = graded(objectives.elbo, given, params, ("decoder",), batch)
    expected, _ = graded(objectives.elbo, plain, without, ("decoder",))
    assert ours == pytest.approx(float(expected), rel=1e-5)
    other = BATCH | {"y": jnp.full(6, 3)}
    assert graded(objectives.elbo, given, params, ("decoder",), other)[0] != ours


def test_cvaegan_with_the_null_label_is_a_vaegan():
    label, loss = Label(CLASSES), adversarial.LOSSES["logistic"]
    prior, implicit = StandardNormal(LATENTS), li.Implicit()
    classifier = Classifier(net.FlatEncoder(net.MLP((8,))), CLASSES)
    four = CVAEGAN(
        encoder(label), decoder(implicit, label), critic(), classifier, prior
    )
    three = CriticVAE(encoder(), decoder(implicit), critic(), prior)
    pairs = {"pixels": 0.0, "critic": 1.0, "classes": 0.0}
    shown = {"loss": loss, "subjects": adversarial.generated}
    encode4 = partial(larsen.encoder_pairwise, beta=1.0, **pairs)
    decode4 = partial(
        larsen.decoder_pairwise,
        mean=0.0,
        class_mean=0.0,
        adversarial=0.7,
        **shown,
        **pairs,
    )
    judge = partial(adversarial.critic, **shown)
    encode3 = partial(larsen.encoder, layer=-1)
    decode3 = partial(larsen.decoder, layer=-1, adversarial=0.7, **shown)
    null = BATCH | {"y": jnp.full(6, -1)}
    params = variables_for(four, encode4, decode4, judge, batch=null)["params"]

    def without(part, inputs):
        mlp = dict(part["body"]["mlp"])
        mlp["Dense_0"] = mlp["Dense_0"] | {"kernel": mlp["Dense_0"]["kernel"][:inputs]}
        return part | {"body": part["body"] | {"mlp": mlp}}

    plain = {
        "encoder": without(params["encoder"], 16),
        "decoder": without(params["decoder"], LATENTS),
        "critic": params["critic"],
    }
    for part, ours, theirs, inputs in (
        ("encoder", encode4, encode3, 16),
        ("decoder", decode4, decode3, LATENTS),
        ("critic", judge, judge, None),
    ):
        _, got = graded(ours, four, params, (part,), null)
        _, expected = graded(theirs, three, plain, (part,))
        got = got[part] if inputs is None else without(got[part], inputs)
        assert_close(got, expected[part], atol=1e-5)


# --- the step ------------------------------------------------------------------------

TINY = {"dataset": "digits", "batch_size": 8, "epochs": 1, "hidden": (16,)}


def moved(experiment, state):
    """A step on a fixed raw batch, and its metrics."""
    raw = dict(blank(experiment.dataset.spec, 8))
    x = experiment.dataset.split("train")["x"][:8]
    raw["x"], raw["index"] = jnp.asarray(x), jnp.arange(8)
    return train_step(experiment, jax.random.key(3), state, raw)


def start(experiment):
    return first_state(experiment, parallel.make_mesh(1, 8))


def test_every_player_moves_its_parts_at_the_old_parameters():
    """One step of all players = each alone, whatever their order."""
    experiment = presets.vaegan(**TINY, latents=3)
    state = start(experiment)
    backwards = dict(reversed(experiment.players.items()))
    reverse = dataclasses.replace(experiment, players=backwards)

    @jax.jit
    def steps(state):
        together, other = moved(experiment, state)[0], moved(reverse, state)[0]
        alone = {}
        for name, player in experiment.players.items():
            frozen = player._replace(optimizer=optax.set_to_zero())
            players = {**experiment.players, name: frozen}
            own = state.opt_state | {name: frozen.optimizer.init({})}
            without = dataclasses.replace(experiment, players=players)
            alone[name] = moved(without, state._replace(opt_state=own))[0].params
        return together.params, other.params, alone

    together, other, alone = steps(state)
    assert_close(together, other, rtol=0, atol=0)
    for name, player in experiment.players.items():
        for part in state.params:
            same = jax.tree.map(np.array_equal, alone[name][part], state.params[part])
            assert all(jax.tree.leaves(same)) == (part in player.owns), (name, part)


def test_a_player_with_a_shut_gate_keeps_its_parts_and_its_optimizer():
    experiment = presets.wgan_gp(**TINY, latents=3, critic_moves=3)
    state, step = start(experiment), jax.jit(partial(moved, experiment))
    said = []
    for _ in range(6):
        before = state
        state, metrics = step(state)
        said.append(float(metrics["generator/moved"]))
        changed = not np.array_equal(
            jax.tree.leaves(before.params["generator"])[1],
            jax.tree.leaves(state.params["generator"])[1],
        )
        assert changed == bool(said[-1])
        count = state.opt_state["generator"][0].count
        assert count == sum(said)
    assert said == [0, 0, 1, 0, 0, 1]


@pytest.mark.parametrize("ema", [0.0, 0.3])
def test_running_statistics_average_over_the_steps_of_the_averaged_parameters(ema):
    settings = {"latents": 2, "likelihood": "gaussian_optimal", "binarize": "none"}
    experiment = presets.vae(**TINY, **settings, ema=ema)
    state, rest = start(experiment), 1.0
    compiled = jax.jit(partial(moved, experiment))
    for step in (1, 2, 3):
        state, _ = compiled(state)
        rest *= min(ema, (1 + step) / (10 + step)) if ema else 0.99
        masses = [
            leaf
            for path, leaf in jax.tree_util.tree_leaves_with_path(state.stats)
            if path[-1].key == "mass"
        ]
        np.testing.assert_allclose(masses, [1 - rest], rtol=10 * EPS)


@pytest.mark.parametrize("moves", [1, 5])
def test_a_falling_rate_ends_where_it_promises_behind_a_gate(moves):
    """By a slope of 1, gradient descent moves by the rate of the step of training."""
    rate = optax.cosine_decay_schedule(0.1, 50)
    player = Player(lambda *a: a, optax.sgd(rate), ("w",), gate=every(moves))
    params, slope = {"w": jnp.zeros(())}, {"w": jnp.ones(())}
    opt_state = {"player": player.optimizer.init(params)}
    state = TrainState(jnp.int32(0), params, {}, opt_state, {})
    for step in range(50):
        was, state = state, state._replace(step=jnp.int32(step))
        after, opt_state, moved = move(player, "player", state, slope, {})
        state = state._replace(params=after, opt_state={"player": opt_state})
        want = float(rate(step)) if (step + 1) % moves == 0 else 0.0
        shift = float(was.params["w"] - state.params["w"])
        assert bool(moved) == (want > 0)
        np.testing.assert_allclose(shift, want, atol=4 * EPS)  # of sums up to 3
    assert want == pytest.approx(0.1 * (1 + np.cos(np.pi * 49 / 50)) / 2, rel=1e-3)


def counts(opt_state) -> list[int]:
    """Where the schedules of an optimizer stand."""
    kind = optax.ScaleByScheduleState
    parts = jax.tree.leaves(opt_state, is_leaf=lambda part: isinstance(part, kind))
    return [int(part.count) for part in parts if isinstance(part, kind)]


def test_schedules_of_gated_players_stand_at_the_step_of_training():
    experiment = presets.wgan_gp(**TINY, latents=3, critic_moves=3, decay="cosine")
    state, step = start(experiment), jax.jit(partial(moved, experiment))
    for _ in range(6):
        state, _ = step(state)
    assert counts(state.opt_state["generator"]) == [6]
    assert counts(state.opt_state["critic"]) == [6]


def test_every_falling_rate_is_one_that_the_step_sets():
    authors = presets.vaegan_authors_code(dataset="digits")
    for player in authors.players.values():
        assert counts(player.optimizer.init({})) == [0]


@pytest.mark.parametrize(
    ("real", "fake", "critic_moves", "decoder_moves"),
    [
        (0.7, 0.7, True, True),  # between both bounds
        (0.2, 0.7, False, True),  # the critic is too good at real subjects
        (0.7, 0.2, False, True),
        (0.7, 1.2, True, False),  # the critic is too bad
        (0.2, 1.2, True, True),  # both would rest
    ],
)
def test_the_authors_gates(real, fake, critic_moves, decoder_moves):
    gates = equilibrium(0.68, 0.35)
    metrics = {"critic/loss_real": jnp.array(real), "critic/loss_fake": jnp.array(fake)}
    assert bool(gates["critic"](jnp.array(0), metrics)) == critic_moves
    assert bool(gates["decoder"](jnp.array(0), metrics)) == decoder_moves


def test_every_gate_opens_at_the_end_of_its_period():
    assert [bool(every(2)(jnp.array(s), {})) for s in range(4)] == [0, 1, 0, 1]


def flops(function, *arguments):
    return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]


def test_three_players_share_their_forward_pass():
    """The step costs what one forward pass and three backward passes cost.

    A backward pass alone is what a player's gradient adds to its own forward pass.
    """
    experiment = presets.vaegan(**TINY | {"hidden": (256, 256)}, latents=8, r1=0.0)
    state = start(experiment)
    batch = {"x": jnp.zeros((64, 8, 8, 1))}
    model, players = experiment.model, experiment.players.values()

    def loss_of(player, params):
        return nn.apply(player.objective, model)({"params": params}, batch, KEY)[0]

    def forward(params):
        return [loss_of(player, params) for player in players]

    def gradients(params):
        now = TrainState(state.step, params, {}, {}, {})
        return [own_gradient(model, player, now, batch, KEY)[0] for player in players]

    backward = 0.0
    for player in players:
        now = partial(loss_of, player)

        def alone(params, player=player):
            at = TrainState(state.step, params, {}, {}, {})
            return own_gradient(model, player, at, batch, KEY)[0]

        backward += flops(alone, state.params) - flops(now, state.params)
    limit = 1.15 * (flops(forward, state.params) + backward)
    assert flops(gradients, state.params) <= limit


# --- runs ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wgan_gp", "vaegan", "cvaegan", "ali", "gan"])
def test_a_stopped_game_goes_on_bit_for_bit(name, tmp_path, monkeypatch):
    """Critics, gates, power iterations and all optimizers included."""
    extra = {"gan": {"critic_norm": "spectral"}}.get(name, {})
    settings = TINY | {"latents": 3, "batch_size": 96, "epochs": 2, "log_every": 5}

    def make():
        return presets.PRESETS[name](**settings, **extra)

    whole = train(make(), tmp_path / "whole", quiet=True, devices=1)
    report = Recorder.report

    def interrupted(self, step, *reported):
        report(self, step, *reported)
        if step == 10:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "report", interrupted)
        with pytest.raises(Stopped):
            train(make(), tmp_path / "run", quiet=True, devices=1)
    again = train(make(), tmp_path / "run", quiet=True, devices=1)
    jax.tree.map(np.testing.assert_array_equal, again, whole)
    rows = [(tmp_path / f / "metrics.jsonl").read_bytes() for f in ("run", "whole")]
    assert rows[0] == rows[1]


def test_a_diverging_game_is_reported(tmp_path):
    wild = presets.wgan_gp(
        **TINY | {"batch_size": 96, "epochs": 20}, latents=3, learning_rate=1e30
    )
    with pytest.raises(Diverged, match=r"is (nan|inf|-inf) at step|not finite"):
        train(wild, tmp_path / "run", quiet=True, devices=1)


def test_critics_have_the_convolutions_of_their_encoders():
    """As many channels and blocks, and the layers that follow from them."""
    sizes = {"dataset": "digits", "channels": (4, 6, 8), "blocks": 1, "hidden": (5,)}
    made = presets.vaegan(**sizes, body="residual", remat=True, layer=4)
    body = made.model.critic.body
    assert (body.channels, body.blocks, body.remat) == ((4, 6, 8), 1, True)
    with pytest.raises(InputError, match="the critic has layers 0 to 4"):
        presets.vaegan(**sizes, body="conv", layer=5)
