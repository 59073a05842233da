"""A trained model's functions as portable programs, by `jax.export`.

Parameters are arguments of the programs and lie beside them, once, in an `.npz`: baked
in, each program would hold a copy of them, XLA would fold them as constants, and 2 GiB
would be the most. A batch may be of any size. `sample` draws as `vaejax.sample` does.
"""

import importlib.util
import shutil
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.export import Exported, symbolic_shape

from vaejax import parallel
from vaejax.apply.capabilities import latent_shape
from vaejax.apply.inputs import blank_batch
from vaejax.data.kinds import kind_of
from vaejax.data.levels import RULES
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState, variables_of
from vaejax.export import load as loader
from vaejax.export.functions import PRNG, ExportedQuery, functions
from vaejax.models import draws_latents
from vaejax.runtime.limits import check_count
from vaejax.runtime.storage import check_new_folder, whole_folder
from vaejax.stages.decoding import decoded
from vaejax.training.workdir import load, write_json
from vaejax.types import Array

PLATFORMS = ("cpu", "cuda", "tpu")
SAYS = {
    "encode": "q(z | x): mean and standard deviation (scale), [n, latents]",
    "decode": "E[x | z], [n, ...], in the model's units",
    "sample": "n examples, E[x | z] at z from the prior, in the model's units",
    "log_likelihood": "log p(x) by importance sampling, nats for each example",
}
MEANINGS = {
    "x": "examples in the model's units; what the mask says is not observed is ignored",
    "z": "latents",
    "y": "class numbers; a model that is not conditioned on them takes their count",
    "key": f"raw data of a {PRNG} key: jax.random.key_data(jax.random.key(seed))",
    "mask": "1 where x is observed, else 0",
    "context": "what is conditioned on, 0 where it is not seen",
    "seen": "1 where the context is seen, else 0",
}
Arguments = dict[str, jax.ShapeDtypeStruct]


def export(workdir: Path, out: Path, samples: int) -> None:
    """Exports the model of a run and says what was written."""
    check_count("samples", samples, 1)
    # A second stage is exported with the first one, which decodes its samples.
    experiment, state = decoded(*load(workdir))
    write_export(experiment, state, out, samples)
    for path in sorted(out.iterdir()):
        print(path)


def write_export(
    experiment: Experiment, state: TrainState, out: Path, samples: int
) -> None:
    """Writes a folder that `vaejax.export.load` reads, with JAX alone.

    Args:
      experiment: what was trained.
      state: what training came to.
      out: a folder that is empty or not there.
      samples: importance samples of `log_likelihood`.

    Raises:
      InputError: the folder is not empty, flatbuffers is missing, or the model has none
        of the functions.
    """
    if importlib.util.find_spec("flatbuffers") is None:
        raise InputError("exporting needs flatbuffers: pip install 'vaejax[export]'")
    check_new_folder(out)
    programs = exports(experiment, state, samples)
    with whole_folder(out) as made:
        np.savez(made / "parameters.npz", **parameters_of(state))
        for name, (program, _) in programs.items():
            (made / f"{name}.jax").write_bytes(program.serialize())
        shutil.copyfile(loader.__file__, made / "load.py")
        says = manifest(experiment, state, programs, made, samples)
        write_json(made / "export.json", says)


def parameters_of(state: TrainState) -> Any:
    """A model's variables, flat: arrays under names like encoder/bias."""
    return flatten_dict(dict(variables_of(state)), sep="/")


def exports(
    experiment: Experiment, state: TrainState, samples: int
) -> dict[str, tuple[Exported, Arguments]]:
    """Each function that the model has, exported, and its arguments."""
    shapes = jax.eval_shape(parameters_of, state)
    programs = {}
    for name, function in functions(experiment, state, samples).items():
        every = shapes_of(experiment, state)
        taken = {n: every[n] for n in function.arguments}
        whole = of_parameters(experiment, state, function)
        program = parallel.portable(whole, PLATFORMS, shapes, *taken.values())
        programs[name] = program, taken
    return programs


def of_parameters(
    experiment: Experiment, state: TrainState, function: ExportedQuery
) -> Callable[..., Any]:
    """The function of flat parameters and of its arguments in order."""

    def whole(parameters: dict[str, Array], *values: Array) -> Any:
        params, stats = split_state(unflatten_dict(parameters, sep="/"))
        trained = state._replace(params=params, stats=stats, ema={})
        named = dict(zip(function.arguments, values, strict=True))
        return function.answer(experiment, trained, named)

    return whole


def split_state(variables: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters, and statistics by collection."""
    stats = {name: parts for name, parts in variables.items() if name != "params"}
    return variables.get("params", {}), stats


def shapes_of(experiment: Experiment, state: TrainState) -> Arguments:
    """All that functions take, for a batch of any size n."""
    (n,) = symbolic_shape("n")
    batch = jax.eval_shape(lambda: blank_batch(experiment))
    shapes = {
        name: jax.ShapeDtypeStruct((n, *batch[name].shape[1:]), batch[name].dtype)
        for name in ("x", "mask", "context", "seen")
        if name in batch
    }
    if draws_latents(experiment.model):
        latents = latent_shape(experiment, state)
        shapes["z"] = jax.ShapeDtypeStruct((n, *latents), jnp.float32)
    return shapes | {
        "y": jax.ShapeDtypeStruct((n,), jnp.int32),
        "key": jax.ShapeDtypeStruct((2,), jnp.uint32),
    }


def manifest(
    experiment: Experiment,
    state: TrainState,
    programs: Mapping[str, tuple[Exported, Arguments]],
    out: Path,
    samples: int,
) -> dict[str, Any]:
    """The content of `export.json`: all that is needed to call the programs by hand."""
    spec = experiment.dataset.spec
    scale = {"mean": spec.mean, "scale": spec.scale} if spec.mean else {}
    return {
        "format": loader.FORMAT,
        "preset": experiment.name,
        "data": spec.name,
        "step": int(state.step),
        "versions": {name: version(name) for name in ("vaejax", "jax", "flax")},
        "platforms": list(PLATFORMS),
        "units": units(experiment) | scale,
        "columns": [[c.name, c.kind, list(c.values)] for c in spec.columns],
        "classes": list(spec.class_names),
        "importance_samples": samples,
        "parameters": record(out, "parameters.npz"),
        "functions": {
            name: record(out, f"{name}.jax")
            | {"says": SAYS[name], "arguments": describe_arguments(taken)}
            | {"results": [str(aval) for aval in program.out_avals]}
            for name, (program, taken) in programs.items()
        },
    }


def units(experiment: Experiment) -> dict[str, str]:
    """The model's units, and how the data's own become those."""
    spec = experiment.dataset.spec
    kind = kind_of(spec)
    if kind.coded:
        return {"x": f"codes, whole numbers from 0 to {spec.levels - 1}"}
    if kind.standardized:
        axis = kind.axes[-1]
        one = axis.removesuffix("s")
        return {"x": f"standardized {axis}: ({one} - mean) / scale, 0 in holes"}
    binary = ", rounded or drawn to be 0 or 1" if spec.levels == 2 else ""
    rule = f", where levels are {RULES[spec.pixels.rule].code}" if spec.pixels else ""
    return {"x": f"in [0, 1]: grey levels / {spec.levels - 1}{binary}{rule}"}


def describe_arguments(taken: Arguments) -> list[dict[str, Any]]:
    """Arguments in order, after the parameters."""
    return [
        {
            "name": name,
            "shape": [side if isinstance(side, int) else str(side) for side in a.shape],
            "dtype": str(a.dtype),
            "meaning": MEANINGS[name],
        }
        for name, a in taken.items()
    ]


def record(out: Path, name: str) -> dict[str, str]:
    """A file and its digest."""
    return {"file": name, "blake2b": loader.digest(out / name)}
