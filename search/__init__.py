"""The search service: studies that finish exactly the trials they were asked for.

It knows Optuna, and nothing of images or networks: a problem is named in the study file.
"""

from typing import TYPE_CHECKING

from search.cross_validation import Fold, FoldContext, cross_validate
from search.errors import (
    NoResult,
    ProblemError,
    SearchError,
    SpecError,
    StorageError,
    StudyChanged,
    StudyHalted,
    StudyNotFound,
)
from search.problem import Diverged, Problem, TrialContext, TrialPruned, TrialStopped

if TYPE_CHECKING:
    from pathlib import Path

    from search.study import Study

__all__ = [
    "Diverged",
    "Fold",
    "FoldContext",
    "NoResult",
    "Problem",
    "ProblemError",
    "SearchError",
    "SpecError",
    "StorageError",
    "StudyChanged",
    "StudyHalted",
    "StudyNotFound",
    "TrialContext",
    "TrialPruned",
    "TrialStopped",
    "create",
    "cross_validate",
    "open",
    "work",
]

DEFAULT_STORAGE = "sqlite:///runs/studies.db"


def create(
    spec: "Path | str", *, storage: str = DEFAULT_STORAGE, checkpoints: str | None = None
) -> "Study":
    """Create a study from a study file, or open the one created from the same content.

    Args:
        spec: a path, or the text of a study file; a line that ends in .toml is a path.
        storage: see `search.storage.open_storage`.
        checkpoints: a directory or s3://bucket/prefix; default runs/NAME/checkpoints, or where
            the study that exists says.

    Raises:
        SearchError: the file, the storage or the problem is wrong; StudyChanged when the study
            was created from other content.
    """
    from pathlib import Path

    from search.spec import parse_spec, read_spec
    from search.study import create_study_at

    if isinstance(spec, str) and spec.endswith(".toml") and "\n" not in spec:
        spec = Path(spec)
    parsed = read_spec(spec) if isinstance(spec, Path) else parse_spec(spec, where="the spec")
    return create_study_at(parsed, storage, checkpoints=checkpoints)


def open(name: str, *, storage: str = DEFAULT_STORAGE) -> "Study":
    """Open a study that exists.

    Raises:
        StudyNotFound: there is none of that name.
    """
    from search.storage import is_missing_file, open_storage, shown
    from search.study import open_study

    if is_missing_file(storage):
        raise StudyNotFound(name, shown(storage), ())
    opened = open_storage(storage)
    try:
        return open_study(name, opened)
    except BaseException:
        opened.close()
        raise


def work(study: "Study") -> None:
    """Run trials in this process until the study has ended; other processes may do so as well.

    With [confirm] in its file, the best trials are then trained again.

    Raises:
        StudyHalted: the same error ended several trials in a row.
    """
    import threading

    from search.study.confirmation.make import confirming_study
    from search.worker.contract import worker_name
    from search.worker.worker import work as run_worker

    run_worker(study, name=worker_name(), stop=threading.Event())
    confirming = confirming_study(study)
    if confirming is not None:
        run_worker(confirming, name=worker_name(), stop=threading.Event())
