"""A problem whose curve betrays a step that was left out or done twice: the logistic map."""

import time
from collections.abc import Mapping
from typing import Any

from search.problem import TrialContext


def following(x: float) -> float:
    """The logistic map in its chaotic regime: an error of one bit grows to all of them."""
    return 3.99 * x * (1.0 - x)


class LogisticMap:
    """Iterates the map from the parameter `x`, one step per epoch.

    Args:
        data: `steps` of a trial and `step_seconds` of each.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._steps = int(data["steps"])
        self._step_seconds = float(data["step_seconds"])

    def check(self, params: Mapping[str, Any]) -> None:
        """Every start in the space can be run."""

    def fingerprint(self) -> Mapping[str, str]:
        """Nothing but the parameters enters."""
        return {}

    def environment(self) -> Mapping[str, str]:
        """Nothing worth storing."""
        return {}

    def run(self, run: TrialContext) -> float:
        """Iterate to the last step; the curve `first` holds the step at which the attempt began."""
        saved = run.load_checkpoint()
        values = [] if saved is None else [float.fromhex(x) for x in saved.decode().split()]
        first = len(values) + 1
        for step, value in enumerate(values, start=1):  # the last may have been saved, not reported
            run.report(step, value, first=first)
        x = values[-1] if values else float(run.params["x"])
        for step in range(first, self._steps + 1):
            time.sleep(self._step_seconds)
            x = following(x)
            values.append(x)
            run.save_checkpoint(" ".join(value.hex() for value in values).encode())
            run.report(step, x, first=first)
        return x
