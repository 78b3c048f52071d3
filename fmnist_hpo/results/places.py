"""A study's bundles: whether its models can be exported, and where they lie."""

from contextlib import suppress
from pathlib import Path

from fmnist_hpo.bundle import Bundle
from fmnist_hpo.bundle.bundle import is_free
from fmnist_hpo.errors import InputError
from fmnist_hpo.image_problem import ImageProblem
from search import attributes
from search.errors import ProblemError
from search.spec import StudySpec
from search.study import Study, load_problem

__all__ = ["bundle_path", "can_export", "ensemble_path", "find_bundle", "image_problem"]


def can_export(study: Study) -> bool:
    """Whether the study's problem makes models of images, which can be exported and measured.

    A problem that cannot be loaded here cannot be exported here either. No data are read. The
    models of a study that confirms another are that one's.
    """
    if attributes.CONFIRMS in study.ledger.attrs:
        return False
    try:
        return isinstance(load_problem(study.spec), ImageProblem)
    except ProblemError:
        return False


def bundle_path(study: Study | StudySpec) -> Path:
    """Where a study's bundle lies unless told otherwise."""
    return Path("runs") / study.name / "bundle"


def ensemble_path(study: Study) -> Path:
    """Where a study's ensemble lies unless told otherwise."""
    return Path("runs") / study.name / "ensemble"


def find_bundle(study: Study, path: Path | None = None) -> Bundle | None:
    """The bundle at a place; None when there is none of this very study.

    Args:
        path: None for where `run` and `export` write it.

    Raises:
        InputError: it is damaged.
    """
    path = path or bundle_path(study)
    with suppress(OSError):  # `open` says why one cannot look
        if is_free(path):
            return None
    bundle = Bundle.open(path)
    return bundle if bundle.provenance.study_uid == study.uid else None


def image_problem(study: Study) -> ImageProblem:
    """A study's problem.

    Raises:
        InputError: its models are not of images; or it confirms another study: each of its trials
            has a split of its own, and the models are those of the other.
    """
    if attributes.CONFIRMS in study.ledger.attrs:
        raise InputError(
            f"study {study.name!r} holds the repeats that confirm another study, which has the "
            "models; export that one"
        )
    problem = study.problem
    if isinstance(problem, ImageProblem):
        return problem
    raise InputError(
        f"only models of images can be exported and measured, and study {study.name!r} runs "
        f"{study.spec.problem!r}"
    )
