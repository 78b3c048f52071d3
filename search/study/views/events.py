"""What happened to a study since it was created, in sentences for report and note."""

from search.study.study import Study
from search.text import shorten

__all__ = ["events"]

LINE_CHARACTERS = 300  # of an amendment where few are shown


def events(study: Study, *, most: int | None = None) -> list[str]:
    """The stop rule that ended the study, and how it was amended, a sentence each.

    Args:
        most: amendments that are shown, the last ones, each cut to a line; None: all, whole.
    """
    end = study.ledger.standing().ended_by
    found = [] if end is None else [f"The search ended as {end.text}."]
    lines = [str(one) for one in study.amendments]
    if most is not None:
        if len(lines) > most:
            found.append(f"The study was amended {len(lines)} times, the last {most} are:")
        lines = [shorten(line, LINE_CHARACTERS) for line in lines[-most:]]
    return [*found, *(f"The study was amended: {line}." for line in lines)]
