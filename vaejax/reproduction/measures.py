"""How the runs of rows are measured: functions from a run to numbers by name."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import numpy as np
import optax

from vaejax.experiment import Experiment, Metric, TrainState
from vaejax.laboratory.encodings import ScoreName
from vaejax.laboratory.settings import Laboratory
from vaejax.metrics.imputation import imputation
from vaejax.reproduction.imputers import (
    Values,
    Work,
    missing_above_mean,
    missing_at_random,
)
from vaejax.runtime.jsonlines import finite, read_rows
from vaejax.samplers.record import Drawing, Sampler, SamplerName
from vaejax.stages.decoding import decoded
from vaejax.training.card import keep_card
from vaejax.training.evaluator import evaluate
from vaejax.training.loop import train
from vaejax.training.workdir import load, write_json


def evaluation(
    work: Work,
    *,
    samples: int = 0,
    split: str = "test",
    classifier: Path | None = None,
    sampler: SamplerName = "prior",
    temperature: float | None = None,
    num: int = 10_000,
) -> Values:
    """The evaluation of the state that `load` gives, as `evaluate.py` makes it.

    Args:
      work: the run.
      samples: importance samples of the likelihood.
      split: of the data.
      classifier: a run that samples are seen by; those of a second stage are what its
        first stage decodes.
      sampler: what these are drawn from: prior, or a density that is fitted.
      temperature: of these.
      num: number of those samples.
    """
    experiment, state = load(work.workdir)
    values: dict[str, Any] = evaluate(experiment, state, split=split, samples=samples)
    if classifier is not None:
        from vaejax.metrics.classifier import judged  # loads SciPy

        drawing = Drawing(fitted_sampler(experiment, state, sampler), temperature)
        shown = decoded(experiment, state)
        values |= judged(*shown, classifier, num, drawing=drawing)
    how = {"split": split, "samples": samples, "step": int(state.step)}
    write_json(work.workdir / "evaluation.json", how | finite(values))
    keep_card(work.workdir)
    return values


def fitted_sampler(
    experiment: Experiment, state: TrainState, kind: SamplerName
) -> Sampler | None:
    """The density that samples are drawn from; None for the prior."""
    if kind == "prior":
        return None
    from vaejax.samplers.fit import fit_sampler  # loads scikit-learn

    return fit_sampler(experiment, state, kind)


def best_in_training(
    work: Work, *, lowest: tuple[str, ...] = (), highest: tuple[str, ...] = ()
) -> Values:
    """The best of the evaluations during training, for each number by itself: the
    protocol of papers that stop and score on one split.
    """
    rows = read_rows(work.workdir / "metrics.jsonl")
    held_out = [row for row in rows if "selection" in row]
    least = {name: min(row[name] for row in held_out) for name in lowest}
    keep_card(work.workdir)
    return least | {name: max(row[name] for row in held_out) for name in highest}


def percent_wrong(work: Work, *, samples: int = 0) -> Values:
    """The evaluation, and `wrong`, the share of test examples whose label the model
    does not tell, in percent.
    """
    values = evaluation(work, samples=samples)
    wrong = {end: 100 * values[f"error{end}"] for end in ("", "_se")}
    return dict(values) | {f"wrong{end}": value for end, value in wrong.items()}


def excess_over_ppca(work: Work, *, samples: int) -> Values:
    """The likelihood beside that of probabilistic PCA in closed form.

    `excess` is -log p(x) of the run on the test split, nats an example, over that of
    the exact maximum of the training split's likelihood [Tipping & Bishop 1999, eq. 7
    to 9]; `exact` is the latter.
    """
    from sklearn.decomposition import PCA

    values = evaluation(work, samples=samples)
    experiment, _ = load(work.workdir)
    x, test = (
        np.asarray(experiment.dataset.split(split)["x"], np.float64)
        for split in ("train", "test")
    )
    exact = -PCA(experiment.arguments["latents"]).fit(x).score(test)
    return dict(values) | {"exact": float(exact), "excess": values["nll"] - exact}


def evaluation_of_means(work: Work, *, samples: int) -> Values:
    """The evaluation with E[x | z] averaged in imputations instead of completions.

    Weights with p(m | x) in them are of completions x_k, whose weighted average is the
    mean of p(x_missing | x_observed, m): our imputation. The code of not-MIWAE's
    authors averages E[x | z_k] by the same weights [Ipsen et al. 2021], as if a
    completion told nothing beyond its z.
    """
    experiment, state = load(work.workdir)
    columns = experiment.dataset.spec.columns

    def metrics(samples: int) -> Mapping[str, Metric]:
        told = imputation(samples, columns, of_means=True)
        return {**experiment.metrics(samples), "imputation": told}

    other = dataclasses.replace(experiment, metrics=metrics)
    return evaluate(other, state, samples=samples)


def refitted(work: Work, *, samples: int, epochs: int) -> Values:
    """The evaluation after the encoder alone has learned complete images.

    An encoder of images with holes has never seen a complete one, so that its bound
    there says little of p(x): it is trained for `epochs` on complete ones, while the
    decoder stays as it is. Values of the encoder as trained are `as_trained_NAME`.
    """
    from vaejax import presets

    _, trained = load(work.workdir)
    holes = ("hide", "hide_rate", "input_dropout", "schedule", "warm_up")
    settings = {n: v for n, v in work.settings.items() if n not in holes}
    complete = presets.miwae(**settings | {"epochs": epochs, "seed": work.seed})
    before = evaluate(complete, trained, samples=samples)
    state = train(with_fixed_decoder(complete), quiet=True, init_from=work.workdir)
    keep_card(work.workdir)
    after = evaluate(complete, state, samples=samples)
    return after | {f"as_trained_{name}": value for name, value in before.items()}


def scores_of_codes(
    work: Work, *, scores: Sequence[ScoreName] = (), split: str = "test"
) -> Values:
    """Scores of a run's codes by known factors, with their standard errors.

    The codes are means of q(z | x) of the first 10,000 examples of a split, in a fixed
    order; no scores are all of them.
    """
    from vaejax.laboratory import measure, summary  # they load SciPy

    lab = Laboratory(scores=tuple(scores) or get_args(ScoreName))
    asked, what, num = load(work.workdir), "disentanglement", 10_000
    found = measure.measure(*asked, [what], lab, split=split, num=num)
    how = measure.measurement_settings(what, lab, 2, num)
    keep_card(work.workdir)
    values = summary.means_and_doubts(what, found, how)
    return {name: value for name, value in values.items() if isinstance(value, float)}


def with_fixed_decoder(experiment: Experiment) -> Experiment:
    """The experiment of a VAE whose decoder stays as it starts."""
    player = experiment.players["vae"]
    optimizer = optax.partition(
        {"moves": player.optimizer, "stays": optax.set_to_zero()},
        {"encoder": "moves", "decoder": "stays"},
    )
    players = {"vae": player._replace(optimizer=optimizer)}
    return dataclasses.replace(experiment, players=players)


MEASURES: Mapping[str, Callable[..., Values]] = MappingProxyType(
    {
        "evaluation": evaluation,
        "best_in_training": best_in_training,
        "percent_wrong": percent_wrong,
        "excess_over_ppca": excess_over_ppca,
        "evaluation_of_means": evaluation_of_means,
        "missing_at_random": missing_at_random,
        "missing_above_mean": missing_above_mean,
        "refitted": refitted,
        "scores_of_codes": scores_of_codes,
    }
)
