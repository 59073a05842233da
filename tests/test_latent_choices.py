"""Every preset with an ELBO takes every prior and every posterior that fits it."""

import itertools

import flax.linen as nn
import jax
import pytest

from vaejax.data.preprocess import blank
from vaejax.errors import InputError
from vaejax.presets import PRESETS
from vaejax.presets.posteriors import GAUSSIAN, POSTERIORS
from vaejax.presets.priors import PRIORS
from vaejax.presets.signature import settings_of, tiny_settings

WITH_LATENTS = [
    name
    for name, make in PRESETS.items()
    if {"prior", "posterior"} <= settings_of(make).keys()
]
PAIRS = list(itertools.product(PRIORS, POSTERIORS))
FEW = [("vamp", "full"), ("maf", "iaf"), ("realnvp", "sylvester"), ("vamp", "planar")]


NEED_MOMENTS = ("beta_tcvae", "dip_vae")
NEED_REAL = ("factor_vae", "hamiltonian_vae", "info_vae")


def misfit(name, prior, posterior):
    """Words of the refusal of a pair; empty where it fits."""
    if name == "vae_two_layer" and prior == "vamp":
        return "vamp learns no inputs"
    if name == "ladder_vae_conv" and prior == "vamp":
        return "batch norm"
    if posterior == "categorical" and (prior != "standard" or name == "vae_two_layer"):
        return "categorical"
    if name in NEED_MOMENTS and posterior not in GAUSSIAN:
        return "of which --posterior"
    if name in NEED_REAL and posterior == "categorical":
        return "and --posterior categorical has none"
    if prior == "vamp" and posterior not in GAUSSIAN:
        return "vamp mixes"
    return ""


def traced(experiment):
    """Shapes of the loss of each player, from the first parameters on."""
    key, batch = jax.random.key(0), blank(experiment.dataset.spec, 4)

    def losses(model, batch, key):
        hyper = {
            name: {n: at(0) for n, at in player.schedules.items()}
            for name, player in experiment.players.items()
        }
        return {
            name: player.objective(model, batch, key, **hyper[name])[0]
            for name, player in experiment.players.items()
        }

    def start(key):
        data = experiment.preprocess.apply(batch, key)
        return nn.init_with_output(losses, experiment.model)(key, data, key)[0]

    return jax.eval_shape(start, key)


def check(name, prior, posterior):
    settings = {"dataset": "digits", "batch_size": 4, "epochs": 1}
    settings |= tiny_settings(PRESETS[name])
    settings |= {"prior": prior, "posterior": posterior}
    if prior not in ("mixture", "vamp"):
        settings.pop("components", None)
    if words := misfit(name, prior, posterior):
        with pytest.raises(InputError, match=words):
            PRESETS[name](**settings)
        return
    for loss in traced(PRESETS[name](**settings)).values():
        assert loss.shape == ()


@pytest.mark.parametrize(("prior", "posterior"), PAIRS)
def test_any_pair(prior, posterior):
    check("vae", prior, posterior)


@pytest.mark.parametrize("name", WITH_LATENTS)
def test_any_preset(name):
    for pair in FEW:
        check(name, *pair)


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_LATENTS)
def test_any_preset_with_any_pair(name):
    for pair in PAIRS:
        check(name, *pair)


def test_there_are_presets_with_latents():
    assert {"vae", "cvae", "iwae", "miwae", "vae_two_layer"} <= set(WITH_LATENTS)
