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
    bench = Bench(catalogue, places, budget)
    works = bench.trained(source, count, plan)
    share = count if source.together else 1
    found = [bench.measured(work, plan, share) for work in works]
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


@dataclasses.dataclass(frozen=True)
class Bench:
    """The plans of a catalogue carried out in their folders, at a budget."""

    catalogue: Catalogue
    places: Places
    budget: Budget = "full"

    def trained(self, plan: Plan, seeds: int, measure: Plan) -> list[measures.Work]:
        """The runs of all seeds, each trained to its end; without a preset nothing is.

        A run that `measure` has measured with the same settings is not opened again.
        """
        works = self.works(plan, range(seeds))
        if not plan.preset:
            return works
        if plan.together:
            make, home = presets.PRESETS[plan.preset], works[0].workdir.parent
            replicas = study(make, home, seeds=seeds, **works[0].settings)
            pairs = zip(works, replicas, strict=True)
            return [work for work, replica in pairs if not replica.diverged]
        for work in works:
            if kept_measures(work, measure) is None:
                self.train(plan, work)
        return works

    def works(self, plan: Plan, seeds: Iterable[int]) -> list[measures.Work]:
        """The runs of these seeds, trained or not: their folders and settings."""
        short = "" if self.budget == "full" else f"-{self.budget}"
        home = self.places.home / f"{plan.name}{short}"
        settings, tables = self.settings(plan), self.places.tables
        works = [
            measures.Work(home / f"seed={seed}", seed, settings, tables)
            for seed in seeds
        ]
        if not plan.first:
            return works

        def after(first: measures.Work) -> dict[str, Any]:
            return {**settings, "dataset": f"{plan.encoded}:{first.workdir}"}

        return [w._replace(settings=after(self.first(plan, w.seed))) for w in works]

    def first(self, plan: Plan, seed: int) -> measures.Work:
        """The run whose latents are the data of a plan's run."""
        before = self.catalogue.plans[plan.first]
        (work,) = self.works(before, [before.seed_as_first(seed)])
        return work

    def train(self, plan: Plan, work: measures.Work) -> None:
        """Trains a run to its end, after its first stage if it has one; both resume."""
        if plan.first:
            self.train(self.catalogue.plans[plan.first], self.first(plan, work.seed))
        make = presets.PRESETS[plan.preset]
        train(make(**work.settings, seed=work.seed), work.workdir)

    def settings(self, plan: Plan) -> dict[str, Any]:
        """The settings, with the path of the tables, which are written where needed.

        Raises:
          InputError: tables are needed and not given.
        """
        settings, tables = plan.at(self.budget), self.places.tables
        if not plan.needs:
            return settings
        if tables is None:
            needed = f"{plan.name} needs {plan.needs}: give them as --tables FILE"
            raise InputError(needed)
        folder = str(prepare_tables(tables, self.places.home / "tables"))
        return {
            name: value.replace("TABLES", folder) if isinstance(value, str) else value
            for name, value in settings.items()
        }

    def measured(
        self, work: measures.Work, plan: Plan, share: int = 1
    ) -> dict[str, Any]:
        """The measures of a run and what they were made with, kept in its folder.

        `share` is the number of runs that were trained side by side, in the same
        seconds.
        """
        known = kept_measures(work, plan)
        if known is not None:
            return known
        options = dict(plan.options)
        if judge := options.get("classifier"):
            options["classifier"] = self.judge(judge)
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

    def judge(self, name: str) -> Path:
        """The run of a classifier, trained at the full budget and measured."""
        bench, plan = (
            dataclasses.replace(self, budget="full"),
            self.catalogue.plans[name],
        )
        (work,) = bench.trained(plan, 1, plan)
        bench.measured(work, plan)
        return work.workdir


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
