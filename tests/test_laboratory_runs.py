"""The laboratory of a trained run: its command, files, pictures and refusals."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.test_scripts import call, refused
from tests.test_seam import MODELS, small
from vaejax import InputError, load, parallel, plots, train
from vaejax.experiment import variables_of
from vaejax.laboratory import aggregate, ais, gaps, over_k
from vaejax.laboratory import measure as laboratory
from vaejax.laboratory.joint import joint_of
from vaejax.laboratory.measure import measure
from vaejax.laboratory.settings import Laboratory
from vaejax.laboratory.summary import means_and_doubts, of_gaps, of_nll_over_k
from vaejax.training.evaluator import held_out_examples
from vaejax.training.loop import first_state

KEY = jax.random.key(0)
LAB = Laboratory(examples=5, chunk=2)
QUICK = ("nll_over_k", "posterior")
WORDS = ["--examples", "5", "--chunk", "2", "--samples", "30", "--num", "6"]
CHAINS = {"chains": 2, "temperatures": 8, "leapfrog": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with a tiny run."""
    folder = tmp_path_factory.mktemp("laboratory") / "run"
    train(small("vae", latents=2, batch_size=96), folder, quiet=True)
    return folder


@pytest.fixture(scope="module")
def loaded(run):
    return load(run)


def quick(loaded, **settings):
    return measure(*loaded, QUICK, LAB, samples=30, num=6, **settings)


# Every model


REFUSED = {
    "vamp of holes": "only nll_over_k and posterior",  # it draws what is missing, too
    "categories": "are Categories, no real numbers",
}


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_measured_or_refused_in_a_sentence(name):
    """Shapes of all that is measured, without computing any."""
    experiment = MODELS[name]()
    state = jax.eval_shape(lambda: first_state(experiment, parallel.make_mesh(1, 1)))
    batch = {"x": jnp.zeros((3, 8, 8, 1)), "mask": jnp.ones((3, 8, 8, 1))}
    if name != "vamp of holes":
        del batch["mask"]

    def shapes(function, *more, **settings):
        def use(variables, batch, key, *more):
            return function(experiment.model, variables, batch, key, *more, **settings)

        return jax.eval_shape(use, variables_of(state), batch, KEY, *more)

    if name in REFUSED:
        with pytest.raises(InputError, match=REFUSED[name]):
            shapes(gaps.inference_gaps, samples=10, draws=2, most=50)
        with pytest.raises(InputError, match=REFUSED[name]):
            shapes(ais.annealed_log_likelihood, **CHAINS, start="prior")
    else:
        found = shapes(ais.bidirectional_bounds, **CHAINS, start="prior")
        assert {f.shape for f in found.values()} == {(3,)}
        found = shapes(ais.annealed_log_likelihood, **CHAINS, start="posterior")
        assert {f.shape for f in found.values()} == {(3,)}
        found = shapes(gaps.inference_gaps, samples=10, draws=2, most=50)
        assert {f.shape for f in found.values()} == {(3,)} and "elbo_full" in found
    found = shapes(over_k.bounds_over_k, samples=10)
    assert found["log_p"].shape == (3, 4)
    rows = {**batch, "row": jnp.arange(3)}
    found = jax.eval_shape(
        lambda v, b, k, o: aggregate.index_code_terms(
            experiment.model, v, b, k, o, draws=2
        ),
        variables_of(state),
        rows,
        KEY,
        batch,
    )
    assert found["information"].shape == (3,)


def test_blocks_of_the_prior_are_weighed_as_its_own():
    """In a hierarchy: log p(z), as `weigh` gives it for the draws of `draw_blocks`."""
    experiment = MODELS["two layers"]()
    variables = variables_of(first_state(experiment, parallel.make_mesh(1, 1)))
    joint = joint_of(experiment.model, variables, {"x": jnp.zeros((3, 8, 8, 1))})

    @jax.jit
    def both():
        z = joint.prior_draws(jax.random.split(KEY, 4))
        i = experiment.model.apply(
            variables, joint.blocks(z), joint.batch, method="weigh"
        )
        return z, joint.prior_and_likelihood(z), (i.log_pz, i.log_px)

    z, found, want = both()
    assert z.shape == (4, 3, 16)
    np.testing.assert_allclose(found, want, rtol=1e-6)
    assert (joint.vectors(joint.blocks(z)) == z).all()


def test_kl_is_information_total_correlation_and_marginals(loaded):
    """Example by example, and as sums over examples of densities in NumPy."""
    found = measure(*loaded, ["posterior"], LAB, num=6)["posterior"]
    parts = ("information", "total_correlation", "dimension_kl")
    np.testing.assert_allclose(sum(found[n] for n in parts), found["kl"], atol=1e-4)
    values = means_and_doubts("posterior", {"posterior": found}, {})
    assert abs(sum(values[n] for n in parts) - values["kl"]) < 1e-4


# Chunks


def test_a_stopped_measurement_goes_on_to_the_same_numbers(
    loaded, tmp_path, monkeypatch
):
    whole = quick(loaded)
    assert whole["nll_over_k"]["log_p"].shape == (5, 6)
    assert whole["posterior"]["kl"].shape == (6,)

    def stop(name, done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick(loaded, folder=tmp_path, tell=stop)
    kept = sorted(path.name for path in tmp_path.rglob("*.npz"))
    assert kept == ["00000.npz", "00001.npz"]
    told = []
    again = quick(loaded, folder=tmp_path, tell=lambda *each: told.append(each))
    assert told[:4] == [("nll_over_k", done, 5) for done in (0, 2, 4, 5)]
    for name, numbers in whole.items():
        for key, values in numbers.items():
            np.testing.assert_array_equal(again[name][key], values)

    def refuse(*arguments, **settings):
        return lambda *given: pytest.fail("measured again")

    monkeypatch.setattr(laboratory.parallel, "compile_function", refuse)
    quick(loaded, folder=tmp_path)


def test_other_settings_parameters_and_damage_are_measured_again(
    loaded, tmp_path, capsys
):
    first = quick(loaded, folder=tmp_path)
    place = tmp_path / "nll_over_k" / "00001.npz"
    before = place.read_bytes()
    place.write_bytes(before[:100])
    again = quick(loaded, folder=tmp_path)
    assert "is damaged: it is measured again" in capsys.readouterr().err
    np.testing.assert_array_equal(
        again["nll_over_k"]["log_p"], first["nll_over_k"]["log_p"]
    )
    experiment, state = loaded
    other = state._replace(params=jax.tree.map(lambda a: a * 1.1, state.params))
    moved = quick((experiment, other), folder=tmp_path)
    np.testing.assert_array_equal(
        moved["nll_over_k"]["log_p"], quick((experiment, other))["nll_over_k"]["log_p"]
    )
    assert (moved["nll_over_k"]["log_p"] != first["nll_over_k"]["log_p"]).all()


# The command


@pytest.fixture(scope="module")
def commanded(run):
    call("evaluate", run, "--what", *QUICK, *WORDS)
    return run


def test_the_command_keeps_its_numbers(commanded, loaded, capsys):
    record = json.loads((commanded / "laboratory.json").read_text())
    assert set(record) == {"format", "measurements"}
    found = quick(loaded)
    entry = record["measurements"]["nll_over_k"]
    assert entry["examples"] == 5 and entry["step"] == int(loaded[1].step)
    want = -found["nll_over_k"]["log_p"].mean(0)
    np.testing.assert_allclose(entry["values"]["nll"], want, rtol=1e-6)
    assert entry["values"]["k"] == [1, 2, 5, 10, 20, 30]
    call("evaluate", commanded, "--what", "posterior", *WORDS)
    said = capsys.readouterr()
    assert "log N" in said.out and said.err.startswith("posterior: 6/6 examples")
    again = json.loads((commanded / "laboratory.json").read_text())
    assert again["measurements"]["nll_over_k"] == entry  # kept beside the new one
    assert (commanded / "laboratory" / "nll_over_k.png").stat().st_size > 5000


def test_out_takes_the_numbers_elsewhere(commanded, tmp_path):
    call("evaluate", commanded, "--what", "posterior", *WORDS, "--out", tmp_path / "a")
    assert set(json.loads((tmp_path / "a").read_text())["measurements"]) == {
        "posterior"
    }


def test_pictures_come_from_the_record(commanded, tmp_path, capsys, loaded):
    call("plot", commanded, "--what", "nll_over_k", "--out", tmp_path)
    assert (tmp_path / "nll_over_k.png").stat().st_size > 5000
    assert "nll_over_k" not in plots.applicable(*loaded)
    capsys.readouterr()
    line = refused(capsys, "plot", commanded, "--what", "rate_distortion")
    assert "evaluate.py RUN --what rate_distortion" in line
    (tmp_path / "laboratory.json").write_text('{"format": 1, "measurements": [1]}')
    with pytest.raises(InputError, match="no record of a laboratory: remove it"):
        plots.MEASUREMENTS["gaps"](*loaded, tmp_path)


@pytest.mark.slow
def test_all_measurements_agree_about_a_run(run, capsys):
    """log p(x) by chains, by fitted Gaussians and as a sum of rate and distortion."""
    few = "--examples 4 --chunk 4 --samples 2000 --temperatures 80 --leapfrog 3"
    call("evaluate", run, "--what", "ais", "gaps", "rate_distortion", *few.split())
    record = json.loads((run / "laboratory.json").read_text())["measurements"]
    values = {name: entry["values"] for name, entry in record.items()}
    log_p = values["gaps"]["log_p"]
    for name in ("log_p_diagonal", "log_p_full", "log_p_ais"):
        assert abs(values["gaps"][name] - log_p) < 0.3
    at = values["rate_distortion"]["beta"].index(1.0)
    both = values["rate_distortion"]["rate"][at]
    both += values["rate_distortion"]["distortion"][at]
    assert abs(both + log_p) < 0.3
    assert -0.2 < values["ais"]["simulated_gap"] < 0.5
    for name in ("approximation_gap_full", "approximation_gap_diagonal"):
        assert -0.1 < values["gaps"][name] < values["gaps"]["gap"] + 0.1
    for name in ("gaps", "rate_distortion"):
        assert (run / "laboratory" / f"{name}.png").stat().st_size > 5000
        call("plot", run, "--what", name)
    assert "ais_simulated: 4/4 examples" in capsys.readouterr().err


BAD = [
    ("--what gaps --input x.npz", "--what goes without"),
    ("--what gaps --devices 2", "one device"),
    ("--what gaps --samples 1", "samples is 1: it must be at least 2"),
    ("--what gaps --chains 1", "chains is 1: it must be at least 2"),
    ("--what gaps --temperatures 7", "at least 8"),
    ("--what gaps --largest-beta 0.5", "at least 1"),
    ("--what gaps --largest-beta nan", "a finite number"),
    ("--what ais --chains 2000000000", "chains of"),
    ("--what ais --start posteriors", "--start"),
    ("--what nonsense", "nonsense"),
    ("--what posterior --split none", "no split"),
    ("--what posterior --num 1", "at least 2"),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=[w for w, _ in BAD])
def test_what_cannot_be_measured(words, said, run, capsys):
    assert said in refused(capsys, "evaluate", run, *words.split())


def test_models_without_latents_are_refused():
    experiment = small("gan", latents=2)
    with pytest.raises(InputError, match="gan has no encoder"):
        measure(experiment, None, ["gaps"])


def test_categories_are_aggregated_as_any_latents():
    experiment = small("vae", posterior="categorical", latents=2)
    variables = variables_of(first_state(experiment, parallel.make_mesh(1, 1)))
    batch = {"x": jnp.zeros((3, 8, 8, 1))}
    rows = {**batch, "row": jnp.arange(3)}
    found = jax.jit(
        lambda: aggregate.index_code_terms(
            experiment.model, variables, rows, KEY, batch, draws=2
        )
    )()
    # Equal examples share a posterior: z tells none of them apart.
    np.testing.assert_allclose(found["information"], 0, atol=1e-5)


def test_conditional_priors_have_no_aggregate():
    experiment = small("vae_completion", latents=2)
    with pytest.raises(InputError, match="another prior for each context"):
        measure(experiment, None, ["posterior"])


# Summaries


def numbers_of_gaps(**changed):
    ones = np.ones(4, np.float32)
    found = {"elbo": -3 * ones, "log_p": -2 * ones, "ess": 50 * ones, "khat": ones}
    found |= {"elbo_diagonal": -2.5 * ones, "log_p_diagonal": -1.5 * ones}
    found |= {"ess_diagonal": 70 * ones, "khat_diagonal": 0 * ones}
    found |= {"steps_diagonal": 50 * ones, "plateau_diagonal": ones, "diagonal": ones}
    return found | changed


def test_gaps_are_from_the_estimate_with_the_largest_mean():
    values = of_gaps(numbers_of_gaps(), None)
    assert values["log_p_by"] == "diagonal" and values["log_p"] == -1.5
    assert values["approximation_gap_diagonal"] == 1.0
    assert values["amortization_gap_diagonal"] == 0.5
    assert values["gap"] == 1.5
    # Larger for one example, and not in the mean: it is not mixed in.
    ais_numbers = {"log_p": np.array([0, -2, -2, -3], np.float32)}
    values = of_gaps(numbers_of_gaps(), ais_numbers)
    assert values["log_p_by"] == "diagonal" and values["log_p_ais"] == -1.75


def test_doubts_are_sentences():
    """Each says what to do, or that amortization gaps may be negative."""
    said = means_and_doubts("gaps", {"gaps": numbers_of_gaps()}, {})["doubts"]
    assert said == []
    zeros = np.zeros(4, np.float32)
    changed = numbers_of_gaps(
        ess_diagonal=zeros + 3, plateau_diagonal=zeros, diagonal=zeros
    )
    said = means_and_doubts("gaps", {"gaps": changed}, {})["doubts"]
    assert len(said) == 3
    assert said[0].startswith("log p(x) of the gaps is not to be trusted: 100%")
    assert "give more --fit-steps" in said[1]
    few = {n: np.full(6, v) for n, v in (("kl", 20.0), ("information", 1.7))}
    few["information_without"] = np.full(6, 25.0)
    (said,) = means_and_doubts("posterior", {"posterior": few}, {})["doubts"]
    assert said.startswith("z tells nearly all 6 examples apart")


def test_a_single_example_has_no_standard_error():
    one = {"log_p": np.zeros((1, 6)), "error": np.zeros((1, 6))}
    one |= {"bias": np.zeros((1, 6)), "ess": np.ones((1, 6)), "khat": np.ones((1, 6))}
    values = of_nll_over_k(one, {"samples": 30})
    assert values["nll_se"] == [None] * 6


def test_held_out_examples_of_a_split_are_those_of_its_examples(loaded):
    experiment, _ = loaded
    few = held_out_examples(experiment, 3, "train")["x"]
    assert few.shape == (3, 8, 8, 1)
    assert (few != held_out_examples(experiment, 3)["x"]).any()
