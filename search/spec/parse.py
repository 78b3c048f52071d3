"""Reads and validates a study file."""

import json
import os
import re
import stat
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from search.errors import SpecError
from search.spec.aims import parse_aims, parse_confirm, parse_constraints
from search.spec.freeze_thaw import find_hindrance
from search.spec.keys import TOP, keys_of
from search.spec.outside import parse_notify, parse_track
from search.spec.overrides import Override, overridden
from search.spec.prior import Prior, parse_prior
from search.spec.size import count
from search.spec.space import Space
from search.spec.space_table import parse_space
from search.spec.strategies import (
    AUTO,
    FREEZE_THAW,
    PRUNERS,
    SAMPLERS,
    Options,
    check_options,
)
from search.spec.study_file import NamedTrial, Strategy, StudySpec, Workers
from search.spec.values import (
    MANY_DIGITS,
    MOST_DEPTH,
    check_document,
    check_parameter_name,
    check_table,
    shown,
    study_name_of,
    value_of,
)
from search.text import describe_error, is_unicode

__all__ = ["DEFAULTS", "parse_spec", "read_spec", "read_workers"]

DEFAULT_FOLDS = 5
DEFAULTS = "defaults"  # name of the trial at the defaults of the space
MOST_BYTES = 1 << 20  # of a study file that a person writes
MOST_GRID_POINTS = 1_000_000
#: A dotted key of more parts than `MOST_DEPTH`, for which tomllib takes quadratic time.
_DEEP_KEY = re.compile(
    rf"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){{{MOST_DEPTH},}}"""
)


def read_spec(path: Path, overrides: Sequence[Override] = ()) -> StudySpec:
    """Read and validate a study file.

    Args:
        overrides: keys that get other values before the file is validated.

    Raises:
        SpecError: names the file, the key, the rule, the value received and what to do.
    """
    try:
        # a pipe may never have a writer, and neither it nor a device may end
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            content = file.read(MOST_BYTES + 1) if regular else b""
        text = content.decode("utf-8-sig")  # some editors begin a file with a byte order mark
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path, bytes that are no UTF-8
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SpecError(
            f"cannot read the study file {path}: {reason}; check the path and the file"
        ) from error
    if not regular or len(content) > MOST_BYTES:
        raise SpecError(
            f"cannot read the study file {path}: it must be a file of at most {MOST_BYTES:,} "
            "bytes; check the path"
        )
    if overrides:
        text = overridden(_load(text, str(path)), overrides, str(path))
    return parse_spec(text, where=str(path))


def parse_spec(text: str, *, where: str, generated: bool = False) -> StudySpec:
    """Validate the text of a study file.

    Args:
        where: names it in messages.
        generated: whether no person wrote it, so that it may have any length.

    Raises:
        SpecError: names the key, the rule, the value received and what to do.
    """
    if len(text) > MOST_BYTES and not generated:
        raise SpecError(f"{where}: a study file has at most {MOST_BYTES:,} bytes, got more")
    table = _load(text, where)
    top = keys_of(TOP)
    check_table(table, TOP, top, where)
    given = {name: value_of(table, key, where) for name, key in top.items()}
    given["name"] = study_name_of(given["name"], where)
    module, _, class_name = given["problem"].partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), class_name)):
        raise SpecError(f"{where}: problem must be 'module:Class', got {shown(given['problem'])}")
    fixed = given["fixed"] or {}
    for name in fixed:
        check_parameter_name(name, f"{where}: fixed")
    space = parse_space(given["space"] or {}, fixed, where)
    sampler = _strategy(given["sampler"] or {}, "sampler", SAMPLERS, where)
    pruner = _strategy(given["pruner"] or {}, "pruner", PRUNERS, where)
    named = _named(given["trials"] or [], space, fixed, where)
    budget = _values(given["budget"] or {}, "budget", where)
    trials = _budget(budget["trials"], space, fixed, sampler, named, where)
    aims, folds = parse_aims(given, where), _folds(given, where)
    prior = parse_prior(given["prior"], where)
    unassigned = trials - len(named)
    if prior is not None:
        _check_prior(prior, space, sampler, unassigned, where)
    spec = StudySpec(
        name=given["name"],
        problem=given["problem"],
        aims=aims,
        constraints=parse_constraints(given["constraints"] or {}, where),
        seed=given["seed"],
        folds=folds,
        trials=trials,
        hours=budget["hours"],
        steps=budget["steps"],
        target=budget["target"],
        patience=budget["patience"],
        sampler=sampler,
        pruner=pruner,
        control=_control(given["control"], sampler, unassigned, where),
        audit=_audit(given["audit"], sampler, pruner, where),
        workers=_workers(given["workers"], where),
        data=given["data"] or {},
        fixed=fixed,
        space=space,
        named=named,
        refit=_scalars(given["refit"] or {}, f"{where}: refit"),
        prior=prior,
        confirm=parse_confirm(
            given["confirm"],
            study=given["name"],
            aims=len(aims),
            folds=folds,
            trials=trials,
            where=where,
        ),
        notify=parse_notify(given["notify"], where),
        track=parse_track(given["track"], where),
        text=text,
        present=text,
    )
    _check_two_aims(spec, where)
    if sampler.name == FREEZE_THAW and (hindrance := find_hindrance(spec)) is not None:
        raise SpecError(f"{where}: {hindrance.message}")
    return spec


def _check_prior(prior: Prior, space: Space, sampler: Strategy, unnamed: int, where: str) -> None:
    """Refuse earlier studies where every trial is given in advance, or is no room for theirs."""
    if not space.parameters or sampler.name == "grid":
        got = "the sampler grid" if space.parameters else "no [space]"
        raise SpecError(
            f"{where}: prior needs a space that is not given point by point, got {got}; remove "
            "[prior], or name another sampler"
        )
    if prior.trials > unnamed:
        raise SpecError(
            f"{where}: prior.trials are part of budget.trials: need at most {unnamed} (without the "
            f"named ones), got {prior.trials}; lower it, or raise budget.trials"
        )


def _check_two_aims(spec: StudySpec, where: str) -> None:
    """Refuse what needs one value of a trial, in a study with two metrics."""
    if len(spec.aims) == 1:
        return
    refused = {
        "[pruner]": spec.pruner.name != "none" and f"the pruner {spec.pruner.name}",
        "[control]": spec.control and f"{spec.control} trials",
        "budget.target": spec.target is not None and f"target = {spec.target:g}",
        "budget.patience": spec.patience is not None and f"patience = {spec.patience}",
        "[audit]": spec.audit and f"fraction = {spec.audit}",
    }
    for table, got in refused.items():
        if got:
            raise SpecError(
                f"{where}: {table} compares trials by one value, got {got} and two metrics; remove "
                "it, or make one of the metrics a constraint"
            )
    if spec.sampler.name == "cma-es":
        raise SpecError(
            f"{where}: the sampler cma-es takes one metric, got two; name another, such as "
            "nsga-ii, tpe or gp"
        )


def read_workers(text: str) -> Workers:
    """The table `[workers]` of a stored study file, without a look at the rest."""
    where = "the stored study file"
    return _workers(_load(text, where).get("workers"), where)


def _workers(table: Mapping[str, Any] | None, where: str) -> Workers:
    return Workers(**_values(table or {}, "workers", where))


def _load(text: str, where: str) -> dict[str, Any]:
    """The document, or `SpecError` for whatever the parser of TOML raises."""
    if not is_unicode(text):
        raise SpecError(f"{where}: it holds half of a surrogate pair; save it as UTF-8 text")
    if _DEEP_KEY.search(text):
        raise SpecError(f"{where}: a key has at most {MOST_DEPTH} parts, got more; shorten it")
    try:
        table = tomllib.loads(text)
    except RecursionError as error:
        raise SpecError(
            f"{where} is not valid TOML: it is nested too deeply; flatten it"
        ) from error
    except tomllib.TOMLDecodeError as error:
        reason = describe_error(error).partition(": ")[2]
        raise SpecError(f"{where} is not valid TOML: {reason}") from error
    except ValueError as error:  # Python's limit is 4,300 digits
        raise SpecError(f"{where}: {MANY_DIGITS}") from error
    check_document(table, where)
    return table


def _values(table: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    """Every key of a table with its value or default, checked."""
    keys = keys_of(name)
    check_table(table, name, keys, where)
    return {key.name: value_of(table, key, f"{where}: {name}") for key in keys.values()}


def _folds(given: Mapping[str, Any], where: str) -> int | None:
    folds: int | None = given["folds"]
    if given["mode"] == "cross-validation":
        return DEFAULT_FOLDS if folds is None else folds
    if folds is not None:
        raise SpecError(
            f'{where}: folds = {folds} goes with mode = "cross-validation" only; add that, or '
            "leave folds out"
        )
    return None


def _budget(
    trials: int | None,
    space: Space,
    fixed: Mapping[str, Any],
    sampler: Strategy,
    named: tuple[NamedTrial, ...],
    where: str,
) -> int:
    """The number of lineages; where it can only be one number it need not be given."""
    most: int | None = None
    if not space.parameters:
        most = len(named)
    elif sampler.name == "grid":
        try:
            space.check_steps()
            points = count(space, fixed).points
        except SpecError as error:
            raise SpecError(f"{where}: {error}") from error
        assert points is not None
        if points > MOST_GRID_POINTS:
            raise SpecError(
                f"{where}: a grid is shuffled whole, so it may have {MOST_GRID_POINTS:,} points, "
                f"got {points:,}; give it fewer values, or name the sampler random"
            )
        most = len(named) + points
    trials = most if trials is None else trials
    if trials is None:
        raise SpecError(f"{where}: budget.trials is missing; say how many trials shall finish")
    if most is not None and trials > most:
        source = "named trials" if not space.parameters else "named trials and points of the grid"
        raise SpecError(
            f"{where}: there are {most} {source}, got budget.trials = {trials}; "
            + (f"set it to {most} or leave it out" if most else "declare a [space] or [[trials]]")
        )
    if trials < len(named):
        raise SpecError(
            f"{where}: budget.trials = {trials} is below the {len(named)} named trials; raise it"
        )
    return int(trials)


def _control(
    table: Mapping[str, Any] | None, sampler: Strategy, unassigned: int, where: str
) -> int:
    """The lineages that are drawn at random, beside those that the sampler proposes."""
    if table is None:
        return 0
    trials: int = _values(table, "control", where)["trials"]
    if sampler.name in ("random", "grid"):
        raise SpecError(
            f"{where}: control compares the sampler with random search, got sampler "
            f"{sampler.name}; remove [control], or name another sampler"
        )
    if trials >= unassigned:
        raise SpecError(
            f"{where}: control.trials are part of budget.trials and must leave some to the "
            f"sampler: need less than {unassigned} (without the named ones), got {trials}; lower it"
        )
    return trials


def _audit(
    table: Mapping[str, Any] | None, sampler: Strategy, pruner: Strategy, where: str
) -> float:
    """The share of the pruned trials that run on."""
    if table is None:
        return 0.0
    fraction = float(_values(table, "audit", where)["fraction"])
    if pruner.name == "none" and sampler.name not in (FREEZE_THAW, AUTO):
        raise SpecError(f"{where}: audit lets pruned trials run on, got no pruner; add a [pruner]")
    return fraction


def _named(
    tables: list[Any], space: Space, fixed: Mapping[str, Any], where: str
) -> tuple[NamedTrial, ...]:
    """The trials that run first: the defaults of the space, then those of [[trials]]."""
    named: dict[str, NamedTrial] = {}
    try:
        defaults = space.defaults(fixed)
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from error
    if defaults is not None:
        named[DEFAULTS] = NamedTrial(name=DEFAULTS, params=defaults)
    keys = keys_of("trials")
    for index, table in enumerate(tables):
        here = f"{where}: trials[{index}]"
        check_table(table, "trials", keys, where)
        values = {name: value_of(table, key, here) for name, key in keys.items()}
        name, params = values["name"], values["params"]
        if name in named:
            raise SpecError(f"{here}: the name {name!r} is taken; give each trial its own")
        params = space.complete(_scalars(params, here), fixed, f"{here} ({name})")
        if values["reshuffle"] and values["repeat"] is None:
            raise SpecError(f"{here}: reshuffle needs a repeat, got none; add repeat = 0")
        for other in named.values():
            _check_types(params, other, space, here)
        named[name] = NamedTrial(**values | {"params": params})
    return tuple(named.values())


def _check_types(params: Mapping[str, Any], other: NamedTrial, space: Space, here: str) -> None:
    """Refuse 1 beside true or 1.0, which are one and the same among the choices of Optuna."""
    for name, value in params.items():
        before = other.params.get(name)
        if space.owner(name) is None and value == before and type(value) is not type(before):
            raise SpecError(
                f"{here}: {name} is {json.dumps(value)} here and {json.dumps(before)} in "
                f"{other.name!r}, which count as the same value; write both alike"
            )


def _scalars(params: Mapping[str, Any], here: str) -> Mapping[str, Any]:
    """The parameters, of which none is a list, a table or a date."""
    for key, value in params.items():
        check_parameter_name(key, here)
        if not isinstance(value, bool | int | float | str):
            raise SpecError(
                f"{here}: {key} must be a string, a number, true or false, got {shown(value)}"
            )
    return params


def _strategy(table: Mapping[str, Any], kind: str, known: Options, where: str) -> Strategy:
    key = keys_of(kind)["name"]
    options = {option: value for option, value in table.items() if option != "name"}
    unnamed = "tpe" if kind == "sampler" and options else key.default
    name = table.get("name", unnamed)
    try:
        if not isinstance(name, str):
            raise SpecError(f"the {kind}'s name must be {key.rule}, got {shown(name)}")
        check_options(kind, known, name, options)
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from error
    return Strategy(name=name, options=options)
