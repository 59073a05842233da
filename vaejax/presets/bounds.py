"""The settings of bounds of several draws, and the experiments that train by them."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

from vaejax.configs import at_least
from vaejax.errors import InputError, require
from vaejax.experiment import Experiment, Player
from vaejax.inference import bounds
from vaejax.inference.gradients import GradientName
from vaejax.presets.assemble import chosen_by_bound
from vaejax.presets.choice import pick

BoundName = Literal["iwae", "multiply", "partially", "combination", "renyi", "max"]
ENCODERS = ("encoder", "top_encoder")
"""The parts of a model that only q consists of."""


@dataclasses.dataclass(frozen=True)
class Importance:
    """The bound of several draws that is trained by, and its gradient."""

    samples: int = 5
    """Importance samples K within the logarithm."""
    bound: BoundName = "iwae"
    """iwae; multiply: the mean of repeats of it; partially: multiply for the encoder,
    iwae of all draws for the rest; combination: ELBO and iwae; renyi: of an order; max:
    the largest weight alone."""
    repeats: int = 1
    """Repeats M of multiply and partially, which draw M times K samples."""
    elbo_weight: float = 0.0
    """Weight of the ELBO in combination; iwae has the rest."""
    order: float = 0.0
    """Order alpha of renyi: near 0 it is iwae, 1 the ELBO; below 0 above iwae."""
    gradient: GradientName = "pathwise"
    """pathwise; dreg: doubly reparameterized, less noise for the encoder; stl: without
    the score, biased for K > 1; vimco: for discrete latents."""

    def __post_init__(self) -> None:
        at_least(1, self, "samples", "repeats")
        require(0 <= self.elbo_weight < 1, "elbo_weight", self.elbo_weight, "in [0, 1)")
        needed = NEEDED.get(self.bound, "")
        for name, owner in OWNERS.items():
            given = vars(self)[name] != DEFAULTS[name]
            if given and name != needed:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag} is of --bound {owner}: choose one")
        if needed and vars(self)[needed] == DEFAULTS[needed]:
            flag = needed.replace("_", "-")
            raise InputError(
                f"--bound {self.bound} without --{flag} is iwae: set --{flag}"
            )
        if self.gradient == "dreg" and self.bound == "max":
            raise InputError(
                "--gradient dreg is of smooth bounds: use pathwise with --bound max"
            )
        if self.gradient == "vimco" and self.trained.draws < 2:
            raise InputError("--gradient vimco compares draws: set --samples above 1")

    @property
    def trained(self) -> bounds.Bound:
        """The bound that the generative parts are trained by."""
        known: Mapping[str, Callable[[], bounds.Bound]] = {
            "iwae": lambda: bounds.importance_weighted(self.samples),
            "multiply": lambda: self.repeated,
            "partially": lambda: bounds.importance_weighted(
                self.samples * self.repeats
            ),
            "combination": lambda: bounds.combined(self.samples, self.elbo_weight),
            "renyi": lambda: bounds.renyi(self.samples, self.order),
            "max": lambda: bounds.largest_weight(self.samples),
        }
        return pick("bound", self.bound, known)()

    @property
    def repeated(self) -> bounds.Bound:
        """The mean over repeats."""
        return bounds.multiply_weighted(self.samples, self.repeats)

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines that a run prints."""
        if self.gradient != "stl" or self.samples == 1:
            return ()
        return (
            "--gradient stl of more than one sample within a logarithm is biased; dreg "
            "is not",
        )


NEEDED = {
    "multiply": "repeats",
    "partially": "repeats",
    "combination": "elbo_weight",
    "renyi": "order",
}
"""The setting without which a bound is iwae."""
OWNERS = {
    "repeats": "multiply or partially",
    "elbo_weight": "combination",
    "order": "renyi",
}
DEFAULTS = {field.name: field.default for field in dataclasses.fields(Importance)}


def trained_by_bound(experiment: Experiment, importance: Importance) -> Experiment:
    """The experiment of one player by the bound of the settings, which also chooses.

    Its objective is `objectives.weighted`, of which the bound is still open. Partially
    weighted it has two players at the same draws: one of the parts of q, one of the
    others [Rainforth et al. 2018: PIWAE].
    """
    (player,) = experiment.players.values()

    def trains(bound: bounds.Bound, owns: tuple[str, ...]) -> Player:
        objective = partial(player.objective, bound=bound, gradient=importance.gradient)
        return player._replace(objective=objective, owns=owns)

    players = {"vae": trains(importance.trained, player.owns)}
    if importance.bound == "partially":
        of_q = tuple(part for part in player.owns if part in ENCODERS)
        others = tuple(part for part in player.owns if part not in ENCODERS)
        players = {
            "encoder": trains(importance.repeated, of_q),
            "decoder": trains(importance.trained, others),
        }
    notes = (*experiment.notes, *importance.notes)
    experiment = dataclasses.replace(experiment, players=players, notes=notes)
    return chosen_by_bound(
        experiment, importance.trained.draws, importance.trained.value
    )
