"""What happened to a study since it was created, in sentences for report, card and note."""

from search.study.study import Study

__all__ = ["events"]


def events(study: Study) -> list[str]:
    """The stop rule that ended the study, and how it was amended, a sentence each."""
    end = study.ledger.standing().ended_by
    ended = [] if end is None else [f"The search ended as {end.text}."]
    return [*ended, *(f"The study was amended: {one}." for one in study.amendments)]
