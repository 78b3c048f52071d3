"""Names of samplers and pruners, and the options a study file may give them."""

import difflib
from collections.abc import Mapping
from typing import Any

from search.errors import SpecError
from search.spec.values import number_of

__all__ = ["PRUNERS", "SAMPLERS", "Options", "check_options"]

_COUNT = {"whole": True, "low": 0}
_POSITIVE = {"whole": True, "low": 1}
_FACTOR = {"whole": True, "low": 2}  # Optuna divides by its logarithm
_NUMBER: Mapping[str, Any] = {}
_COMPARING = {
    "n_startup_trials": _COUNT,
    "n_warmup_steps": _COUNT,
    "interval_steps": _POSITIVE,
    "n_min_trials": _POSITIVE,
}
#: What Optuna takes in the place of a number.
_AUTO = {("successive-halving", "min_resource"), ("hyperband", "max_resource")}

#: Name -> option -> what `number_of` asks of it; None: not a number, Optuna checks it when made.
Options = Mapping[str, Mapping[str, Mapping[str, Any] | None]]

#: `grid` has no sampler of Optuna's: each lineage is given its own point.
SAMPLERS: Options = {
    "random": {},
    "tpe": {"n_startup_trials": _COUNT, "n_ei_candidates": _POSITIVE},
    "gp": {"n_startup_trials": _COUNT},
    "cma-es": {"n_startup_trials": _COUNT},
    "qmc": {"qmc_type": None},
    "grid": {},
}

PRUNERS: Options = {
    "none": {},
    "median": _COMPARING,
    "percentile": {"percentile": _NUMBER, **_COMPARING},
    "successive-halving": {
        "min_resource": _POSITIVE,
        "reduction_factor": _FACTOR,
        "min_early_stopping_rate": _COUNT,
    },
    "hyperband": {
        "min_resource": _POSITIVE,
        "max_resource": _POSITIVE,
        "reduction_factor": _FACTOR,
    },
    "patience": {"patience": _COUNT, "min_delta": {"low": 0}},
    "threshold": {
        "lower": _NUMBER,
        "upper": _NUMBER,
        "n_warmup_steps": _COUNT,
        "interval_steps": _POSITIVE,
    },
}

_REQUIRED = {"percentile": ("percentile",), "patience": ("patience",)}


def check_options(kind: str, known: Options, name: str, options: Mapping[str, Any]) -> None:
    """Raise `SpecError` unless `name` is a known sampler or pruner and takes these options.

    Args:
        kind: "sampler" or "pruner", for the message.
    """
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(known)}"
        raise SpecError(f"unknown {kind} {name!r}; {hint}")
    for option, value in options.items():
        if option not in known[name]:
            near = difflib.get_close_matches(option, list(known[name]), n=1)
            hint = f"did you mean {near[0]!r}?" if near else _listed(list(known[name]))
            raise SpecError(f"the {name} {kind} has no option {option!r}; {hint}")
        rule = known[name][option]
        if rule is not None and not (value == "auto" and (name, option) in _AUTO):
            number_of(options, option, f"the {name} {kind}", **rule)
    for option in _REQUIRED.get(name, ()):
        if option not in options:
            raise SpecError(f"the {name} {kind} needs {option}; add {option} = ...")
    least, most = options.get("min_resource", 1), options.get("max_resource", "auto")
    if most != "auto" and most < least:
        raise SpecError(
            f"the {name} {kind} needs max_resource >= min_resource, got max_resource = {most} and "
            f"min_resource = {least}; max_resource is the last step of a trial"
        )
    if name == "threshold" and not {"lower", "upper"} & set(options):
        raise SpecError("the threshold pruner needs lower or upper; add one of them")


def _listed(options: list[str]) -> str:
    return f"it takes {', '.join(options)}" if options else "it takes none"
