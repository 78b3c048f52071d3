"""Makes the study in which the best trials of another one are trained again."""

import itertools
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from search import attributes
from search.errors import SearchError
from search.ledger.by_hand import hold
from search.spec import parse_spec
from search.spec.aims import CONFIRMING
from search.spec.overrides import overridden
from search.study.confirmation.find import Mark, mark_of, read_marks
from search.study.create import create_study, open_study
from search.study.study import Study

__all__ = ["confirming_study"]


def confirming_study(study: Study) -> Study | None:
    """The study that confirms the present best trials of one whose search is over.

    It is created where there is none yet; several processes may do so at once. Each candidate is a
    named trial for each repeat, and its checkpoints lie beside those of the study.

    Returns:
        None where the study file has no [confirm], or no trial is complete.

    Raises:
        SearchError: the search is not over.
        ProblemError: the problem cannot be loaded here, or on other data.
    """
    study.refresh()
    mark = mark_of(study.spec, study.uid, study.amendments, study.trials, study.params)
    if mark is None:
        return None
    if not study.status().over:
        raise SearchError(
            f"a study is confirmed after its search, got {study.name!r}, whose search goes on; "
            f"let `run {study.name}` end it"
        )
    wanted, marks = mark.to_json(), read_marks(study.storage)
    name = next((one.name for one in marks if one.mark == wanted), None)
    if name is not None:
        return open_study(name, study.storage, checkpoints=study.checkpoints.address)
    _ = study.problem  # refuses other data before anything is created
    text = _text(study, mark, _free_name(study.name, {one.name for one in marks}))
    where = f"the confirmation of study {study.name!r}"
    spec = parse_spec(text, where=where, generated=True)
    made = create_study(spec, study.storage, checkpoints=study.checkpoints.address, confirms=wanted)
    if made.ledger.attrs.get(attributes.CONFIRMS) != wanted:
        raise SearchError(f"study {study.name!r} was changed meanwhile; run the command again")
    if study.ledger.standing().held_since is not None:
        hold(made.ledger)
    return made


def _free_name(name: str, taken: set[str]) -> str:
    first = name + CONFIRMING
    later = (f"{first}-{number}" for number in itertools.count(2))
    return next(one for one in itertools.chain([first], later) if one not in taken)


def _text(study: Study, mark: Mark, name: str) -> str:
    """The study file of the confirmation."""
    spec, trials = study.spec, {trial.number: trial for trial in study.trials}
    assert spec.confirm is not None
    params = {number: study.params(trials[number]) for number in mark.trials}
    fixed = _common(list(params.values()))
    document: dict[str, Any] = {
        "name": name,
        "problem": spec.problem,
        "metric": spec.metric,
        "direction": spec.direction,
        "seed": spec.seed,
        "sampler": {"name": "random"},  # nothing is sampled
        "workers": tomllib.loads(spec.present).get("workers", {}),
        "data": dict(spec.data),
        "fixed": fixed,
        "trials": [
            {
                "name": f"trial-{number}-repeat-{repeat}",
                "params": {key: value for key, value in params[number].items() if key not in fixed},
                "repeat": repeat,
                "reshuffle": spec.confirm.reshuffled,
            }
            for repeat in range(spec.confirm.seeds)
            for number in mark.trials  # in the order of `find.lineage_of`
        ],
    }
    return overridden(document, (), name)


def _common(params: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The parameters that all candidates share."""
    first, *others = params
    return {
        key: value
        for key, value in first.items()
        if all(key in one and one[key] == value and type(one[key]) is type(value) for one in others)
    }
