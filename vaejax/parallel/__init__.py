"""Devices: the mesh, where arrays live, and the only place that compiles."""

from vaejax.parallel.functions import (
    compile_function,
    compile_metric,
    compile_verb,
    portable,
)
from vaejax.parallel.placement import (
    device_per_core,
    fed,
    layout,
    make_mesh,
    place,
    put,
    replicated,
    row,
    rows,
    spread,
    study_mesh,
)
from vaejax.parallel.steps import (
    abstract_state,
    compile_init,
    compile_scan,
    compile_steps,
    one_move,
    slow_in_scan,
    state_layout,
    traced_move,
)
from vaejax.parallel.studies import (
    Build,
    Own,
    can_trace,
    compile_study,
    compile_study_init,
)

__all__ = [
    "Build",
    "Own",
    "abstract_state",
    "can_trace",
    "compile_function",
    "compile_init",
    "compile_metric",
    "compile_scan",
    "compile_steps",
    "compile_study",
    "compile_study_init",
    "compile_verb",
    "device_per_core",
    "fed",
    "layout",
    "make_mesh",
    "one_move",
    "place",
    "portable",
    "put",
    "replicated",
    "row",
    "rows",
    "slow_in_scan",
    "spread",
    "state_layout",
    "study_mesh",
    "traced_move",
]
