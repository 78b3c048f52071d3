"""Creates studies, once their problems have accepted what the study files allow, and opens them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection

from search import attributes
from search.errors import ProblemError, SpecError, StudyChanged
from search.ledger import Ledger
from search.problem import Problem
from search.spec import StudySpec
from search.storage import LOCK_WAIT_MS, Storage, is_missing_file, open_storage
from search.storage.checkpoint import CheckpointStore
from search.study.choose_sampler import choose_sampler
from search.study.load_problem import labels_of
from search.study.prior import read_prior
from search.study.study import Study
from search.study.validate import validate

__all__ = ["NewStudy", "create_study", "create_study_at", "open_study", "study_names"]


@dataclass(frozen=True, kw_only=True)
class NewStudy:
    """A study file that its problem and its strategies accept; nothing is stored yet.

    Attributes:
        attrs: what is stored with the study.
    """

    spec: StudySpec
    problem: Problem
    attrs: Mapping[str, Any]

    def with_prior(self, storage: Storage | None) -> "NewStudy":
        """This study with what it takes over from earlier ones, which is read once.

        Args:
            storage: where the study will be; None while there is none.

        Raises:
            SpecError: an earlier study is not there, or has other metrics.
        """
        if self.spec.prior is None or attributes.PRIOR in self.attrs:
            return self
        spec = self.spec.with_sampler(self.attrs[attributes.SAMPLER]["name"])
        prior = read_prior(spec, storage, self.problem)
        return replace(self, attrs={**self.attrs, attributes.PRIOR: prior})


def create_study(
    spec: StudySpec,
    storage: Storage,
    *,
    checkpoints: str | None = None,
    confirms: Mapping[str, Any] | None = None,
) -> Study:
    """Create a study, or open the one that was created from the same content.

    Several processes may do so at once. The problem is asked first whether it accepts every named
    trial, both ends of every range, and configurations drawn at random.

    Args:
        checkpoints: a directory, or an address such as s3://bucket/prefix; default
            runs/NAME/checkpoints, or where the study that exists says. The study keeps the
            absolute path of a directory.
        confirms: what it confirms, see `confirmation.find.Mark`; None: it is a search.

    Raises:
        StudyChanged: the study in the storage was created from other content.
        SpecError: the sampler or the pruner refuses an option's value, or an earlier study of
            [prior] is not there or has other metrics.
        ProblemError: the problem refuses its data or a parameter.
        StorageError: `checkpoints` is no address of a kind that is known.
    """
    return _store(_new_study(spec, checkpoints, confirms), storage, checkpoints)


def create_study_at(
    spec: StudySpec,
    url: str,
    *,
    checkpoints: str | None = None,
    lock_wait_ms: int = LOCK_WAIT_MS,
    check: Callable[[NewStudy], None] = lambda new: None,
) -> Study:
    """`create_study` in the storage at an address. What is refused leaves no new database there.

    Args:
        lock_wait_ms: see `open_storage`.
        check: is called before a new study is stored, and may refuse it.

    Raises:
        SearchError: as of `create_study` and `open_storage`.
    """
    missing = is_missing_file(url)
    new = _new_study(spec, checkpoints, None)
    if missing:
        check(new)
        new = new.with_prior(None)
    storage = open_storage(url, lock_wait_ms=lock_wait_ms)
    try:
        if not missing and spec.name not in study_names(storage):
            check(new)
        return _store(new, storage, checkpoints)
    except BaseException:
        storage.close()
        raise


def _new_study(
    spec: StudySpec, checkpoints: str | None, confirms: Mapping[str, Any] | None
) -> NewStudy:
    _refuse_only_control(spec)
    problem = validate(spec)
    chosen = choose_sampler(spec, problem)
    fingerprint = labels_of(problem, spec.problem, "fingerprint")
    attrs = {
        attributes.SPEC: spec.text,
        attributes.FINGERPRINT: fingerprint,
        # Refuses an address before the study bears it.
        attributes.CHECKPOINTS: CheckpointStore(
            checkpoints or default_checkpoints(spec.name), ""
        ).address,
        attributes.PERCENT: _percent(problem, spec.problem),
        attributes.SAMPLER: vars(chosen),
    }
    if confirms is not None:
        attrs[attributes.CONFIRMS] = dict(confirms)
    return NewStudy(spec=spec, problem=problem, attrs=attrs)


def _store(new: NewStudy, storage: Storage, checkpoints: str | None) -> Study:
    spec = new.spec
    if spec.name not in study_names(storage):
        new = new.with_prior(storage)
    try:
        Ledger.create(
            storage,
            spec.name,
            directions=[StudyDirection[each.upper()] for each in spec.directions],
            lineages=spec.trials,
            user_attrs=new.attrs,
            system_attrs={attributes.METRIC_NAMES: list(spec.metrics)},
        )
    except optuna.exceptions.DuplicatedStudyError:
        stored = open_study(spec.name, storage).spec
        # The file may say what the study was created as, or what it became by its amendments.
        if spec.differences(stored.text) and (differences := spec.differences(stored.present)):
            raise StudyChanged(spec.name, differences) from None
    return Study(storage, spec.name, checkpoints=checkpoints)


def _refuse_only_control(spec: StudySpec) -> None:
    """Raise `SpecError` where [prior] and [control] leave nothing to the sampler.

    Studies of an earlier version may be so, and are opened all the same.
    """
    if spec.prior is None or not spec.control:
        return
    rest = spec.trials - len(spec.named) - spec.prior.trials
    if spec.control >= rest:
        raise SpecError(
            f"control.trials must leave some trials to the sampler: need less than {rest} (without "
            f"the named ones and those of [prior]), got {spec.control}; lower it"
        )


def _percent(problem: Problem, address: str) -> list[str]:
    names = getattr(problem, "percent", ())
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        raise ProblemError(
            f"the problem {address!r}: percent must be a tuple of metrics' names, got {names!r}; "
            'write percent = ("val_accuracy",)'
        )
    return list(names)


def default_checkpoints(name: str) -> str:
    """Where a study's checkpoints lie unless told otherwise."""
    return str(Path("runs") / name / "checkpoints")


def open_study(
    name: str,
    storage: Storage,
    *,
    checkpoints: str | None = None,
) -> Study:
    """Open a study that exists.

    Args:
        checkpoints: where this process finds them, when not where the study says.

    Raises:
        StudyNotFound: there is none of that name.
        StorageError: it was made by StudySearchCV or by another program.
    """
    return Study(storage, name, checkpoints=checkpoints)


def study_names(storage: Storage) -> list[str]:
    """The studies in a storage that `open_study` opens, sorted."""
    studies = storage.optuna.get_all_studies()
    return sorted(study.study_name for study in studies if attributes.SPEC in study.user_attrs)
