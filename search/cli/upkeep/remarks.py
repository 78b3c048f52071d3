"""What keeps a study from running the trials that were just added to it."""

from search.cli.application import Application
from search.cli.hints import storage_option
from search.study import Study, stop_rules
from search.study.confirmation.find import confirming_ledgers

__all__ = ["remark_on"]


def remark_on(study: Study, app: Application, storage: str) -> str | None:
    """Why no further trial begins at present, and what to do; None while workers run them.

    Args:
        storage: as the user named it.
    """
    status, end = study.status(), study.ended_by()
    if status.held_since is not None:
        option = storage_option(storage)
        return (
            f"it is paused, so no trial begins; `{app.prog} resume {study.name}{option}` ends that"
        )
    if status.done:
        return "all its trials have ended, so hours and steps alone begin none; add --trials +N"
    if end is not None:
        return f"no trial begins, as {end.text}; amend budget.{end.rule} with `{app.prog} amend`"
    if status.out_of_steps:
        return f"its {study.spec.steps:,} steps are used up, so no trial begins; add --steps +N"
    if status.out_of_time:
        return f"its {study.spec.hours:g} hours are used up, so no trial begins; add --hours +H"
    if not status.running and not any(
        one.running() for one in confirming_ledgers(study.storage, study.uid)
    ):
        option = storage_option(storage)
        remark = f"nobody is at work; `{app.prog} run {study.name}{option}` runs the new trials"
        if not status.pauses or not status.complete:
            return remark
        # The search may have ended early, and what is left may not do for one trial.
        spec = study.spec
        unspent = stop_rules.left_of(spec, stop_rules.left(study.ledger, spec))
        limits = {"--hours +H": spec.hours, "--steps +N": spec.steps}
        more = " or ".join(option for option, limit in limits.items() if limit is not None)
        return f"{remark} that can be completed in the {unspent}; add {more} for others"
    return None
