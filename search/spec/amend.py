"""Changes of a study file after its study was created: what may change, and how it is written."""

import itertools
import json
import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from search.errors import SpecError
from search.spec.overrides import Override, overridden, toml_of
from search.spec.parse import DEFAULTS, parse_spec
from search.spec.strategies import AUTO, FREEZE_THAW
from search.spec.study_file import StudySpec
from search.spec.values import equal, shown
from search.text import counted, printable, shorten

__all__ = [
    "Changes",
    "Draft",
    "added",
    "amended",
    "changed_tables",
    "changes_search",
    "extended",
    "lines_of",
    "revised",
]

#: What an amendment may change, by table; all else is part of what the study is.
MAY_CHANGE = ("space", "fixed", "sampler", "pruner", "budget", "audit", "confirm", "refit")
#: Those of them that say what becomes of the search's result.
_AFTERWARDS = frozenset({"confirm", "refit"})
#: What makes a study the one that it is: attributes of its spec.
_IDENTITY = ("name", "problem", "metrics", "directions", "constraints", "seed", "folds", "data",
             "workers", "prior")  # fmt: skip
_MOST_CHARACTERS = 120  # of a value in a line

#: Dotted key -> its value before and since; None where it is absent.
Changes = Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True, kw_only=True)
class Draft:
    """An amendment that is not made yet.

    Attributes:
        spec: the text of the whole study file since then.
        changes: what it changes of the one before.
        given: the parameters of the one lineage that it adds; None where it adds none by hand.
        begun: lineages that must have begun, with what they are: the file no longer has their
            trials, or its space no longer contains them.
    """

    spec: str
    changes: Changes
    given: Mapping[str, Any] | None = None
    begun: Mapping[int, str] = field(default_factory=dict)

    @property
    def searches(self) -> bool:
        """Whether it changes the search, and not only what becomes of its winner."""
        return changes_search(self.changes, self.given)

    @property
    def text(self) -> str:
        """What changes, as lines of TOML; a key that goes is a comment."""
        lines = [
            f"# {key} is removed" if now is None else f"{key} = {toml_of(now)}"
            for key, (_, now) in self.changes.items()
        ]
        if self.given is not None:
            lines.append(f"add = {toml_of(self.given)}")
        return "".join(f"{line}\n" for line in lines)


def amended(frozen: StudySpec, text: str, given: Mapping[int, Mapping[str, Any]]) -> StudySpec:
    """The spec of a study since an amendment.

    Args:
        frozen: that of its creation.
        text: of the whole study file since the amendment.
        given: parameters of the lineages that were added one at a time.
    """
    spec = parse_spec(text, where=f"an amendment of study {frozen.name!r}")
    trials = spec.trials + len(given)
    return replace(
        spec,
        trials=trials,
        added=trials - frozen.trials,
        given=given,
        named=frozen.named,
        control=frozen.control,
        earlier=frozen.earlier,
        text=frozen.text,
        present=text,
    )


def extended(before: StudySpec, *, trials: int, hours: float, steps: int) -> Draft:
    """So many more lineages, hours and steps.

    Raises:
        SpecError: the study cannot have so many lineages, or has no limit of hours or steps.
    """
    amounts = (trials, hours, steps)
    if any(not 0 <= amount < math.inf for amount in amounts) or not any(amounts):
        raise SpecError(
            f"an extension adds trials, hours or steps, got {trials} trials, {hours:g} hours and "
            f"{steps} steps; give a number above 0"
        )
    if trials:
        _refuse_too_many(before, trials)
    changes: dict[str, tuple[Any, Any]] = {}
    if trials:
        changes["budget.trials"] = before.budget_trials, before.budget_trials + trials
    limits: tuple[tuple[str, float | None, float], ...] = (
        ("hours", before.hours, hours),
        ("steps", before.steps, steps),
    )
    for name, present, more in limits:
        if not more:
            continue
        if present is None:
            raise SpecError(
                f"study {before.name!r} has no limit of {name}, got {more:g} more; "
                f"leave --{name} out"
            )
        changes[f"budget.{name}"] = present, present + more
    overrides = [
        Override(path=tuple(key.split(".")), value=now) for key, (_, now) in changes.items()
    ]
    document = tomllib.loads(before.present)
    return Draft(spec=overridden(document, overrides, "the stored study file"), changes=changes)


def _refuse_too_many(before: StudySpec, more: int) -> None:
    present, most = before.budget_trials, before.most_trials
    if present + more <= most:
        return
    what = "the most that a study may have"
    if not before.space.parameters:
        what = "all named trials, and its [space] is empty"
    elif before.sampler.name == "grid":
        what = "all points of its grid"
    if most > present:
        raise SpecError(
            f"study {before.name!r} has {present} of {most:,} trials, which are {what}; got "
            f"{more} more; add at most {most - present}"
        )
    raise SpecError(
        f"study {before.name!r} has {present} trials, which are {what}; it cannot be extended"
    )


def added(before: StudySpec, params: Mapping[str, Any]) -> Draft:
    """One more lineage with these parameters; those that are not given are sampled.

    Raises:
        SpecError: a parameter is not in the space, has another value than it allows, or does not
            apply; or none is given.
    """
    before.space.check_given(params, before.fixed)
    return Draft(spec=before.present, changes={}, given=dict(params))


def revised(before: StudySpec, new: StudySpec, earlier: Sequence[StudySpec] = ()) -> Draft:
    """What a changed study file makes of a study.

    Args:
        before: the present spec, with the sampler that was chosen for the study.
        new: of the file.
        earlier: the specs before the present one, the first one of the study's creation.

    Raises:
        SpecError: it changes what cannot change, or nothing.
    """
    _refuse_another_study(before, new)
    dropped, changes = _dropped(before, new), _changes(before, new)
    if not changes:
        raise SpecError(
            f"the file says what study {before.name!r} is already, so there is nothing to amend; "
            "change the file"
        )
    _refuse_other_strategy(before, new, changes)
    if new.confirm is not None:
        _refuse_many_valued([*earlier, before], new)
    if new.trials < before.budget_trials:
        raise SpecError(
            f"a study cannot shrink, got budget.trials = {new.trials} where it has "
            f"{before.budget_trials}; set it to that or more"
        )
    return Draft(spec=new.present, changes=changes, begun=dropped)


def _refuse_another_study(before: StudySpec, new: StudySpec) -> None:
    """Raise `SpecError` where the file differs in what makes the study the one that it is."""
    for key in _IDENTITY:
        was, now = getattr(before, key), getattr(new, key)
        if not equal(was, now):
            raise SpecError(_unchangeable(before.name, key, was, now))
    # What was parsed of the control is its number; an amended spec keeps that of the creation.
    if before.control != new.control:
        raise SpecError(_unchangeable(before.name, "control.trials", before.control, new.control))


def _unchangeable(study: str, key: str, was: Any, now: Any) -> str:
    return (
        f"{key} of study {study!r} cannot change, got {shown(now)} for {shown(was)}; an amendment "
        f"changes {', '.join(f'[{name}]' for name in MAY_CHANGE)}; search by the file as "
        "a study of its own, under another name"
    )


def _refuse_other_strategy(before: StudySpec, new: StudySpec, changes: Changes) -> None:
    """Raise `SpecError` where trials that began under the one sampler mean nothing to the other."""
    was, now = before.sampler.name, new.sampler.name
    if now == AUTO:
        now = was if was == FREEZE_THAW else "tpe"
    for name, why in (
        (FREEZE_THAW, "only its trials pause"),
        ("grid", "each of its lineages has a point of its own"),
    ):
        if (was == name) != (now == name):
            raise SpecError(
                f"the sampler of study {before.name!r} is {was} and cannot become {now}, as with "
                f"{name} {why}; keep it, or give the file another name"
            )
    if was == "grid" and changed_tables(changes) & {"space", "fixed"}:
        raise SpecError(
            f"study {before.name!r} searches a grid, whose points are all its trials, got another "
            "[space] or [fixed]; give the file another name"
        )


def _refuse_many_valued(before: Sequence[StudySpec], new: StudySpec) -> None:
    """Raise `SpecError` where trials of before and since cannot be repeated in one study."""
    fixed = [spec.fixed for spec in before]
    for name in dict.fromkeys(itertools.chain(*fixed, new.fixed)):
        earlier, now = [values.get(name) for values in fixed], new.fixed.get(name)
        differing = [
            pair
            for pair in itertools.combinations((*earlier, now), 2)
            if _canonical(pair[0]) != _canonical(pair[1])
        ]
        if any(isinstance(value, list | dict) for pair in differing for value in pair):
            kind = "a list or a table"
        elif alike := [pair for pair in differing if pair[0] == pair[1]]:  # 1, true and 1.0
            kind = " and ".join(map(_canonical, alike[0])) + " at times, which count as the same,"
        else:
            continue
        changes = _canonical(earlier[-1]) != _canonical(now)
        rule, remedy = (
            ("cannot change", "leave it as it is")
            if changes
            else ("was changed by an amendment", "remove [confirm]")
        )
        raise SpecError(
            f"fixed.{name} of study {new.name!r} is {kind} and {rule}, but [confirm] repeats "
            "trials side by side, which differ in single values alone; "
            f"{remedy}, or give the file another name"
        )


def _dropped(before: StudySpec, new: StudySpec) -> Mapping[int, str]:
    """The trials given in advance that the file no longer has or allows, by lineage.

    Raises:
        SpecError: it names others.
    """
    # Without those of earlier studies, which no file names.
    known = {trial.name: trial for trial in parse_spec(before.present, where="the study").named}
    for trial in new.named:
        # The defaults of the space may have become others, which are no trial of their own.
        if known.get(trial.name) != trial and trial.name != DEFAULTS:
            raise SpecError(
                f"[[trials]] {trial.name!r} is new or changed, and an amendment adds none; add it "
                f"with `add {before.name} --params ...`"
            )
    kept = {trial.name for trial in new.named if known.get(trial.name) == trial}
    dropped = {
        lineage: f"the trial {trial.name!r}"
        for lineage, trial in enumerate(before.named)
        if (trial.name in known and trial.name not in kept)
        or not _fits(new.space.complete, trial.params, new.fixed, "")
    }
    outside = {
        lineage: f"the trial that was added with {_values_of(params)}"
        for lineage, params in before.given.items()
        if not _fits(new.space.check_given, params, new.fixed)
    }
    return dropped | outside


def _fits(check: Callable[..., object], *arguments: Any) -> bool:
    try:
        check(*arguments)
    except SpecError:
        return False
    return True


def _changes(before: StudySpec, new: StudySpec) -> Changes:
    """What the file changes, by dotted key; neither order nor a default written out counts."""
    old, now = _values(before.present), _values(new.present)
    for values, spec in ((old, before), (now, new)):
        values["budget.trials"] = spec.budget_trials  # the grid or the named trials may set it
        if spec.confirm is not None:  # its table may be empty
            splits = "reshuffled" if spec.confirm.reshuffled else "same"
            values["confirm.top"], values["confirm.seeds"] = spec.confirm.top, spec.confirm.seeds
            values["confirm.splits"] = splits
    return {
        key: (old.get(key), now.get(key))
        for key in dict.fromkeys([*old, *now])
        if key.partition(".")[0] in MAY_CHANGE
        and _canonical(old.get(key)) != _canonical(now.get(key))
    }


def _values(text: str) -> dict[str, Any]:
    """Values by key; those of a table by `table.key`, a parameter of the space as a whole."""
    found: dict[str, Any] = {}
    for name, value in tomllib.loads(text).items():
        if isinstance(value, dict):
            found |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            found[name] = value
    return found


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def changed_tables(changes: Changes) -> set[str]:
    """The names of the tables that have a changed key."""
    return {key.partition(".")[0] for key in changes}


def changes_search(changes: Changes, given: Mapping[str, Any] | None) -> bool:
    """Whether an amendment changes the search, and not only what becomes of its winner."""
    return given is not None or not changed_tables(changes) <= _AFTERWARDS


def lines_of(changes: Changes, given: Mapping[str, Any] | None = None) -> list[str]:
    """Each change in a few words: "budget.trials 40 -> 60"."""
    lines = []
    for key, (before, now) in changes.items():
        if before is None:
            lines.append(f"{key} added: {_shown(now)}")
        elif now is None:
            lines.append(f"{key} removed, was {_shown(before)}")
        else:
            lines.append(f"{key} {_shown(before)} -> {_shown(now)}")
    if given is not None:
        lines.append(f"{counted(1, 'trial')} added with {_values_of(given)}")
    return lines


def _values_of(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {_shown(value)}" for name, value in params.items())


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return shorten(printable(toml_of(value)), _MOST_CHARACTERS)
