"""Freeze-thaw search: short trials that pause, and go on when a model of their curves says so.

The model is in `decision`. It needs SciPy, which takes a second to load: import it where it is
used.
"""

from search.sampling.freeze_thaw.records import Curve, Decision, Left, grid

__all__ = ["Curve", "Decision", "Left", "grid"]
