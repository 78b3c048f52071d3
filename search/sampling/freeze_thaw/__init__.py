"""Freeze-thaw search: short trials that pause, and go on when a model of their curves says so."""

from search.sampling.freeze_thaw.decision import decide, expected
from search.sampling.freeze_thaw.records import Curve, Decision, grid

__all__ = ["Curve", "Decision", "decide", "expected", "grid"]
