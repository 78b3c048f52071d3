"""Names of samplers and pruners, and the options a study file may give them."""

from collections.abc import Mapping
from typing import Any

from search.errors import SpecError, nearest
from search.spec.keys import Key, keys_of
from search.spec.values import shown, value_of

__all__ = ["AUTO", "FREEZE_THAW", "PROPOSING", "PRUNERS", "SAMPLERS", "Options", "check_options"]

AUTO = "auto"  # freeze-thaw or tpe, chosen when the study is created
FREEZE_THAW = "freeze-thaw"

#: Name of a sampler or pruner -> the options it takes.
Options = Mapping[str, Mapping[str, Key]]


def _options(kind: str) -> Options:
    return {
        name: {key.name: key for key in keys_of(kind, only=name).values() if key.only}
        for name in keys_of(kind)["name"].choices
    }


#: `grid` has no sampler of Optuna's: each lineage is given its own point.
SAMPLERS: Options = _options("sampler")
#: Those that only propose parameters, and do not decide which trials go on.
PROPOSING: Options = {name: SAMPLERS[name] for name in SAMPLERS if name not in (AUTO, FREEZE_THAW)}
PRUNERS: Options = _options("pruner")


def check_options(kind: str, known: Options, name: str, options: Mapping[str, Any]) -> None:
    """Raise `SpecError` unless `name` is a known sampler or pruner and takes these options.

    Args:
        kind: "sampler" or "pruner", for the message.
    """
    if name not in known:
        near = nearest(name, known)
        hint = f"did you mean {near!r}?" if near else f"one of {', '.join(known)}"
        raise SpecError(f"unknown {kind} {shown(name)}; {hint}")
    keys = known[name]
    for option in options:
        if option not in keys:
            near = nearest(option, keys)
            takers = [other for other, taken in known.items() if option in taken]
            if near is not None:
                hint = f"did you mean {near!r}?"
            elif takers:
                hint = f"{', '.join(takers)} has it"
            else:
                hint = f"it takes {', '.join(keys) or 'none'}"
            raise SpecError(f"the {name} {kind} has no option {shown(option)}; {hint}")
    for key in keys.values():
        value_of(options, key, f"the {name} {kind}")
    least, most = options.get("min_resource", 1), options.get("max_resource", "auto")
    if "auto" not in (least, most) and most < least:
        raise SpecError(
            f"the {name} {kind} needs max_resource >= min_resource, got max_resource = {most} and "
            f"min_resource = {least}; max_resource is the last step of a trial"
        )
    if name == "threshold" and not {"lower", "upper"} & set(options):
        raise SpecError("the threshold pruner needs lower or upper; add one of them")
