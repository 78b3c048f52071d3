"""Studies whose trials pause."""

import pytest
from pausing_studies import FREEZE_THAW, by_chance

from search.sampling.freeze_thaw import decision
from search.study import Study


@pytest.fixture
def _by_chance(monkeypatch):
    monkeypatch.setattr(decision, "decide", by_chance)


@pytest.fixture
def make_pausing(make_study):
    def make(*, steps=30, trials=10, extra=FREEZE_THAW, **options) -> Study:
        return make_study(
            "toy:Pausing", trials=trials, budget=f"steps = {steps}", extra=extra, **options
        )

    return make
