"""Trains, measures and keeps a row; what was done before is not done again."""

import dataclasses
import datetime
import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vaejax import presets
from vaejax.errors import InputError
from vaejax.reproduction import measures
from vaejax.reproduction.catalogue import Budget, Catalogue, Plan, Row
from vaejax.reproduction.outcome import Outcome, keep_outcome, summarized
from vaejax.reproduction.tables import prepare_tables
from vaejax.runtime.environment import environment
from vaejax.runtime.jsonlines import read_object
from vaejax.runtime.limits import check_count
from vaejax.sweeps.sweep import study
from vaejax.training.loop import train
from vaejax.training.workdir import make_folder, write_json

MEASURED = "measured_{}.json"  # in a run: a plan's measures, and how they were made
PACKAGES = ("jax", "jaxlib", "flax", "numpyro", "optax", "numpy", "python", "vaejax")


@dataclasses.dataclass(frozen=True)
class Places:
    """Where runs and results are kept, and the tables that some rows need."""

    home: Path = Path("runs") / "reproduce"
    results: Path = Path("results") / "rows"
    tables: Path | None = None
    """An `.npz` of the UCI tables by name, float64 `[N, D]` without targets."""


def reproduce(
    row: Row,
    catalogue: Catalogue,
    places: Places,
    *,
    seeds: int = 0,
    budget: Budget = "full",
) -> Outcome:
    """Trains the seeds of a row's run, measures them, and writes the row's file.

    Args:
      row: what to reproduce.
      catalogue: the plans of its run, and of those that it is measured by.
      places: folders of runs and results; runs resume.
      seeds: how many, from 0; 0 is the number of the plan.
      budget: full, or the plan's smaller settings.

    Returns:
      The content of the file.

    Raises:
      InputError: data are needed that were not given, or all seeds diverged.
    """
    check_count("seeds", seeds)
    make_folder(places.results)  # before hours of training, not after
    plan = catalogue.plans[row.run]
    count = seeds or plan.seeds
    source = catalogue.plans[plan.trained] if plan.trained else plan
    works = trained(source, catalogue, places, budget, count, plan)
    share = count if source.together else 1
    found = [measured_run(work, plan, catalogue, places, share) for work in works]
    sign, name = (-1, row.quantity[1:]) if row.quantity[0] == "-" else (1, row.quantity)
    values = [sign * chosen(each, name, row) for each in found]
    errors = [each[f"{name}_se"] for each in found if f"{name}_se" in each]
    outcome = Outcome(
        row=row.name,
        budget=budget,
        settings=recorded_settings(source, budget),
        date=datetime.date.today().isoformat(),
        **summarized(values, errors),
        **made_with(found),
    )
    keep_outcome(places.results, outcome)
    return outcome


def chosen(values: Mapping[str, Any], name: str, row: Row) -> float:
    """The row's quantity among a run's measures."""
    if name not in values:
        known = ", ".join(n for n in values if isinstance(values[n], float))
        raise InputError(f"{row.name} asks for {name}, and there is {known}")
    return float(values[name])


def recorded_settings(plan: Plan, budget: Budget) -> dict[str, Any]:
    """The settings of a plan as its rows keep them: a first stage is named."""
    data = {"dataset": f"{plan.encoded}:{plan.first}"} if plan.first else {}
    return plan.at(budget) | data


def trained(
    plan: Plan,
    catalogue: Catalogue,
    places: Places,
    budget: Budget,
    seeds: int,
    measure: Plan,
) -> list[measures.Work]:
    """The runs of all seeds, each trained to its end; without a preset nothing is.

    A run that `measure` has measured with the same settings is not opened again.
    """
    works = works_of(plan, catalogue, places, budget, range(seeds))
    if not plan.preset:
        return works
    if plan.together:
        make, home = presets.PRESETS[plan.preset], works[0].workdir.parent
        replicas = study(make, home, seeds=seeds, **works[0].settings)
        return [w for w, one in zip(works, replicas, strict=True) if not one.diverged]
    for work in works:
        if kept_measures(work, measure) is None:
            train_work(plan, work, catalogue, places, budget)
    return works


def works_of(
    plan: Plan,
    catalogue: Catalogue,
    places: Places,
    budget: Budget,
    seeds: Iterable[int],
) -> list[measures.Work]:
    """The runs of these seeds, trained or not: their folders and settings."""
    home = places.home / (plan.name if budget == "full" else f"{plan.name}-{budget}")
    settings = settings_at(plan, places, budget)
    works = [
        measures.Work(home / f"seed={seed}", seed, settings, places.tables)
        for seed in seeds
    ]
    if not plan.first:
        return works
    before = catalogue.plans[plan.first]
    own = [before.seed_as_first(work.seed) for work in works]
    firsts = works_of(before, catalogue, places, budget, own)
    return [
        work._replace(
            settings={**settings, "dataset": f"{plan.encoded}:{first.workdir}"}
        )
        for work, first in zip(works, firsts, strict=True)
    ]


def train_work(
    plan: Plan,
    work: measures.Work,
    catalogue: Catalogue,
    places: Places,
    budget: Budget,
) -> None:
    """Trains a run to its end, after its first stage if it has one; both resume."""
    if plan.first:
        first = catalogue.plans[plan.first]
        seed = first.seed_as_first(work.seed)
        (before,) = works_of(first, catalogue, places, budget, [seed])
        train_work(first, before, catalogue, places, budget)
    train(presets.PRESETS[plan.preset](**work.settings, seed=work.seed), work.workdir)


def settings_at(plan: Plan, places: Places, budget: Budget) -> dict[str, Any]:
    """The settings, with the path of the tables, which are written where needed.

    Raises:
      InputError: tables are needed and not given.
    """
    settings = plan.at(budget)
    if not plan.needs:
        return settings
    if places.tables is None:
        raise InputError(f"{plan.name} needs {plan.needs}: give them as --tables FILE")
    folder = prepare_tables(places.tables, places.home / "tables")
    return {
        name: value.replace("TABLES", str(folder)) if isinstance(value, str) else value
        for name, value in settings.items()
    }


def how_measured(work: measures.Work, plan: Plan) -> dict[str, Any]:
    """The settings that measures depend on, as JSON has them: tuples are lists."""
    how = {
        "measure": plan.measure,
        "options": dict(plan.options),
        "settings": dict(work.settings),
    }
    return json.loads(json.dumps(how))


def kept_measures(work: measures.Work, plan: Plan) -> dict[str, Any] | None:
    """The measures in a run's folder; None where there are none with these settings."""
    known = read_object(work.workdir / MEASURED.format(plan.name))
    return known["values"] if known.get("how") == how_measured(work, plan) else None


def measured_run(
    work: measures.Work,
    plan: Plan,
    catalogue: Catalogue,
    places: Places,
    share: int = 1,
) -> dict[str, Any]:
    """The measures of a run and what they were made with, kept in its folder.

    `share` is the number of runs that were trained side by side, in the same seconds.
    """
    known = kept_measures(work, plan)
    if known is not None:
        return known
    options = dict(plan.options)
    if judge := options.pop("classifier", ""):
        judging = catalogue.plans[judge]
        (other,) = trained(judging, catalogue, places, "full", 1, judging)
        measured_run(other, judging, catalogue, places)
        options["classifier"] = other.workdir
    start = time.perf_counter()
    values = dict(measures.MEASURES[plan.measure](work, **options))
    made = made_by_card(work) or made_here(time.perf_counter() - start)
    if made["seconds"]:
        made["seconds"] /= share
    values |= {"made": made}
    work.workdir.mkdir(parents=True, exist_ok=True)
    path = work.workdir / MEASURED.format(plan.name)
    write_json(path, {"how": how_measured(work, plan), "values": values})
    return values


def made_by_card(work: measures.Work) -> dict[str, Any]:
    """Device, source, data and cost of a run, from its card; empty if it has none."""
    card = read_object(work.workdir / "card.json")
    if not card:
        return {}
    start = card["starts"][-1] if card["starts"] else {}
    data = {n: card["data"][n] for n in ("name", "digest") if n in card["data"]}
    data |= {"name": without_place(data["name"])} if "name" in data else {}
    return made_on(start, card["training"]["seconds"]) | {"data": data}


def without_place(name: str) -> str:
    """The name of data, of a run or file by the end of its path alone: a row is of any
    machine.
    """
    kind, colon, path = name.partition(":")
    return f"{kind}:{'/'.join(Path(path).parts[-2:])}" if colon else name


def made_here(seconds: float) -> dict[str, Any]:
    """The same of what is computed without a run."""
    from vaejax import parallel

    return made_on(environment(parallel.make_mesh(1, 1)), seconds) | {"data": {}}


def made_on(start: Mapping[str, Any], seconds: float | None) -> dict[str, Any]:
    """Device, source and versions of a start, as its environment has them, and cost."""
    return {
        "device": start.get("devices", ""),
        "commit": start.get("commit", ""),
        "tree": start.get("tree", ""),
        "versions": {name: start[name] for name in PACKAGES if name in start},
        "seconds": seconds,
    }


def made_with(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Device, source and cost for all seeds: those of the last one, seconds on average.

    The tree is clean where it was for all of them.
    """
    every = [each["made"] for each in found]
    seconds = [made["seconds"] for made in every if made["seconds"] is not None]
    trees = {made["tree"] for made in every}
    return {
        **every[-1],
        "tree": "changed" if "changed" in trees else every[-1]["tree"],
        "seconds": sum(seconds) / len(seconds) if seconds else None,
    }
