"""Whether trials may begin: halted, by an error that is mended, and the clock that is shown."""

import sqlalchemy as sa
from ledger_clock import (
    COMPLETE,
    FAIL,
    PRUNED,
    must,
)

from search.attributes import Reason
from search.ledger import Ledger
from search.storage import Storage


def test_halt_and_resume_repeat_the_trials_that_failed_for_it(
    storage: Storage, ledger: Ledger
) -> None:
    other, *same = (must(ledger.claim(w)) for w in "abc")
    ledger.end(other, FAIL, reason=Reason.ERROR, attrs={"error": "OSError: disk"})
    for claim in same:
        ledger.end(claim, FAIL, reason=Reason.ERROR, attrs={"error": "TypeError: x"})
    assert ledger.recent_errors(2) == ["TypeError: x"] * 2
    assert ledger.recent_errors(3) == ["TypeError: x"] * 2 + ["OSError: disk"]
    ledger.halt("TypeError: x")
    ledger.halt("another")
    assert ledger.standing().halted == "TypeError: x"
    assert ledger.claim("w") is None
    assert ledger.resume() == 2
    assert ledger.standing().halted is None
    assert ledger.resume() == 0
    claims = [must(ledger.claim("w")) for _ in range(2)]
    assert [c.lease.lineage for c in claims] == [1, 2]
    assert ledger.claim("w") is None
    for claim in claims:
        assert "error" not in claim.trial.user_attrs
        ledger.end(claim, COMPLETE, 1.0)
    assert ledger.counts().done == 3
    assert ledger.recent_errors(2) == [None, None]
    assert len(storage.optuna.get_all_trials(ledger.study_id)) == 5


def test_what_diverged_with_the_same_words_neither_halts_a_study_nor_is_repeated(
    storage: Storage, ledger: Ledger
) -> None:
    claims = [must(ledger.claim(w)) for w in "abc"]
    same = {"error": "the loss is nan"}
    ledger.end(claims[0], FAIL, reason=Reason.ERROR, attrs=same)
    for claim in claims[1:]:
        ledger.end(claim, PRUNED, 0.1, reason=Reason.DIVERGED, attrs=same)
    assert ledger.recent_errors(3) == [None, None, "the loss is nan"]
    ledger.halt("the loss is nan")
    assert ledger.resume() == 1
    assert must(ledger.claim("w")).lease.lineage == 0
    assert ledger.claim("w") is None
    assert len(storage.optuna.get_all_trials(ledger.study_id)) == 4


def test_a_halted_study_starts_nothing(ledger: Ledger) -> None:
    running = must(ledger.claim("w"))
    ledger.halt("cause")
    assert ledger.claim("v") is None
    ledger.end(running, COMPLETE, 1.0)  # what runs may end
    assert ledger.counts().done == 1


def test_resume_costs_the_same_however_many_lineages_are_done(
    storage: Storage, ledger: Ledger
) -> None:
    def statements() -> int:
        ledger.halt("E")
        seen: list[object] = []
        sa.event.listen(storage.engine, "before_cursor_execute", lambda *_: seen.append(1))
        ledger.resume()
        return len(seen)

    none_done = statements()
    for _ in range(3):
        ledger.end(must(ledger.claim("w")), FAIL, reason=Reason.ERROR, attrs={"error": "E"})
    assert statements() == none_done
    assert ledger.counts().done == 0
