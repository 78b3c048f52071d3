"""Amends a study by another study file."""

from pathlib import Path

from search.errors import SearchError
from search.ledger import Ledger
from search.ledger.amendments import Amendment, amend
from search.spec import StudySpec, parse_spec, read_spec
from search.spec.amend import Draft, revised
from search.spec.strategies import FREEZE_THAW
from search.study.specs import Specs
from search.study.validate import validate

__all__ = ["amend_study", "preview", "read"]


def read(spec: "StudySpec | Path | str") -> StudySpec:
    """A study file as it may be given: parsed, a path, or its text; see `search.create`."""
    if isinstance(spec, StudySpec):
        return spec
    if isinstance(spec, str) and spec.endswith(".toml") and "\n" not in spec:
        spec = Path(spec)
    return read_spec(spec) if isinstance(spec, Path) else parse_spec(spec, where="the spec")


def preview(specs: Specs, new: StudySpec) -> Draft:
    """What a changed study file makes of a study; nothing is stored.

    Raises:
        SpecError: it changes what cannot change, or nothing, or is refused as that of a new study
            would be.
        ProblemError: the problem refuses a parameter.
    """
    draft = revised(specs.present, new, _earlier(specs, len(specs.amendments)))
    # A study whose trials pause must go on pausing them.
    pauses = specs.present.sampler.name == FREEZE_THAW
    validate(new.with_sampler(FREEZE_THAW) if pauses else new)
    return draft


def amend_study(ledger: Ledger, specs: Specs, new: StudySpec, *, seen: int) -> Amendment:
    """Amend a study by a changed study file.

    Args:
        seen: the number of the last amendment when the difference was shown.

    Raises:
        SearchError: as `preview`; or the study was amended meanwhile.
    """
    preview(specs, new)

    def draft(before: StudySpec, number: int) -> Draft:
        if number != seen:
            raise SearchError(
                f"study {before.name!r} was amended meanwhile, so the difference is another; "
                "run the command again"
            )
        if before.sampler.name != specs.present.sampler.name:
            before = before.with_sampler(specs.present.sampler.name)
        return revised(before, new, _earlier(specs, number))

    return amend(ledger, specs.frozen, draft)


def _earlier(specs: Specs, number: int) -> list[StudySpec]:
    """The specs before the one since an amendment."""
    return [specs.under(earlier) for earlier in range(number)]
