"""Small problems with a seam for each way a trial can go; numpy-free, so that workers start fast.

A toy curve is a chain of hashes: each step depends on the whole past, so a trial that was resumed
at the wrong step, or with another seed, shows another curve.
"""

import ctypes
import hashlib
import json
import math
import os
import signal
import time
from collections.abc import Mapping
from typing import Any

from search import Diverged, ProblemError, TrialContext, TrialStopped
from search.problem import Cost, Outline


def next_state(state: str, seed: int, x: float) -> str:
    """One step of the chain."""
    return hashlib.sha256(f"{state}:{seed}:{x!r}".encode()).hexdigest()


def value_of(state: str) -> float:
    """A number in [0, 1) from a state."""
    return int(state[:13], 16) / 16**13


def whole_curve(seed: int, x: float, steps: int) -> list[float]:
    """What an uninterrupted run reports."""
    state, values = "", []
    for _ in range(steps):
        state = next_state(state, seed, x)
        values.append(value_of(state))
    return values


class Toy:
    """`steps` steps of `pause` seconds each."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = dict(settings)

    def check(self, params: Mapping[str, Any]) -> None:
        if params["x"] > 100:
            raise ProblemError(f"need x <= 100, got {params['x']}; lower it")

    def refit_params(
        self, params: Mapping[str, Any], overrides: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        made = {**params, **overrides}
        self.check(made)
        return made

    def fingerprint(self) -> Mapping[str, str]:
        return {"data": json.dumps(self.settings, sort_keys=True)}

    def environment(self) -> Mapping[str, str]:
        return {"machine": "test"}

    def run(self, run: TrialContext) -> float:
        saved = run.load_checkpoint()
        states: list[str] = json.loads(saved) if saved else []
        for step, state in enumerate(states, start=1):  # the last one may never have been reported
            self.report(run, step, state)
        while len(states) < run.params.get("steps", 4):
            deadline = time.monotonic() + run.params.get("pause", 0.0)
            while time.monotonic() < deadline:
                if run.should_stop:
                    raise TrialStopped
                time.sleep(0.01)
            states.append(next_state(states[-1] if states else "", run.seed, run.params["x"]))
            run.save_checkpoint(json.dumps(states).encode())
            self.report(run, len(states), states[-1])
        return value_of(states[-1])

    def report(self, run: TrialContext, step: int, state: str) -> None:
        run.report(step, value_of(state), double=2 * value_of(state))


class Gated(Toy):
    """Waits after its first step until the file `gate` of its settings is there."""

    def report(self, run: TrialContext, step: int, state: str) -> None:
        super().report(run, step, state)
        while not os.path.exists(self.settings["gate"]):  # noqa: PTH110 - without pathlib
            if run.should_stop:
                raise TrialStopped
            time.sleep(0.01)


class Pausing(Toy):
    """Its trials can be paused; those of more than 1,000 steps cannot."""

    def last_step(self, params: Mapping[str, Any]) -> int:
        steps = int(params.get("steps", 4))
        if steps > 1000:
            raise ProblemError(f"need steps <= 1000, got {steps}; lower it")
        return steps


class Noisy(Toy):
    """Its value is x and noise that hangs on the seed and on the split.

    With `gate` in its settings, the trials of a repeat wait after their first step until that file
    is there; with `broken`, those of that x fail in their last repeat.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self.split: int | None = None

    def reshuffled(self, repeat: int) -> "Noisy":
        other = Noisy(self.settings)
        other.split = repeat
        return other

    def fingerprint(self) -> Mapping[str, str]:
        return {**super().fingerprint(), "split": str(self.split)}

    def curve(self, seed: int, x: float) -> list[float]:
        """The values of three steps."""
        salt = seed if self.split is None else seed + self.split + 1
        return [x + self.settings.get("scale", 0.1) * (value - 0.5)
                for value in whole_curve(salt, x, 3)]  # fmt: skip

    def run(self, run: TrialContext) -> float:
        if self.split == 2 and run.params["x"] == self.settings.get("broken"):
            raise ValueError("broken")
        for step, value in enumerate(self.curve(run.seed, run.params["x"]), start=1):
            run.save_checkpoint(str(step).encode())
            run.report(step, value)
            gate = self.settings.get("gate")
            while self.split is not None and gate and not os.path.exists(gate):  # noqa: PTH110
                if run.should_stop:
                    raise TrialStopped
                time.sleep(0.01)
        return float(value)


class Failing(Toy):
    """Ends as the parameter `how` says."""

    def run(self, run: TrialContext) -> float:
        how = run.params["how"]
        run.report(1, 0.5)
        if how == "error":
            raise ValueError("a typo\nwith a second line")
        if how == "diverged":
            raise Diverged("the loss is nan")
        if how == "nan":
            return float("nan")
        if how == "memory":
            raise MemoryError("tried to allocate 1 TB")
        if how == "slow":
            while not run.should_stop:
                time.sleep(0.01)
            raise TrialStopped
        return 0.75


class Undefined(Toy):
    """Reports NaN last and then ends as the parameter `how` says."""

    def run(self, run: TrialContext) -> float:
        run.report(1, 0.5)
        run.report(2, float("nan"))
        if run.params["how"] == "diverged":
            raise Diverged("the loss is nan")
        while run.params["how"] == "slow" and not run.should_stop:
            time.sleep(0.01)
        if run.should_stop:
            raise TrialStopped
        return float("nan")


class Unreportable(Toy):
    """Reports figures that no JSON can hold, and ends as the parameter `how` says."""

    def run(self, run: TrialContext) -> float:
        for step in (1, 2):
            value = math.nan if run.params["how"] == "nan" and step == 2 else run.params["x"]
            run.report(step, value, loss=math.inf, ratio=math.nan, double=2 * step)
        if run.params["how"] == "error":
            raise ValueError("a typo")
        return value


class Deaf(Toy):
    """Never asks whether it should stop."""

    def run(self, run: TrialContext) -> float:
        time.sleep(60)
        return 0.0


class Ignoring(Deaf):
    """Also ignores SIGTERM, as libraries do that set handlers of their own."""

    def run(self, run: TrialContext) -> float:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return super().run(run)


class Frozen(Deaf):
    """Also holds Python's lock in a long call of C, so that no thread of the worker runs."""

    def run(self, run: TrialContext) -> float:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # it would wake the call
        ctypes.PyDLL(None).sleep(60)
        return 0.0


class Refusing(Toy):
    """Does not accept its settings."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        raise ProblemError(f"need no settings, got {settings}; remove [data]")


class Apart(Toy):
    """Refuses two values together, neither of them at the end of its range."""

    def check(self, params: Mapping[str, Any]) -> None:
        if params["a"] == params["b"] == "q":
            raise ProblemError("need a and b to differ, got q twice; change one")


class Careless(Toy):
    """Its check has a bug."""

    def check(self, params: Mapping[str, Any]) -> None:
        raise KeyError(params["x"])


class Improving(Toy):
    """Reports a straight line up to x, so that a pruner has something to compare."""

    def run(self, run: TrialContext) -> float:
        for step in range(1, 6):
            run.report(step, run.params["x"] * step / 5)
        return float(run.params["x"])


class Unexported(Toy):
    """Nobody trains its best configuration again."""

    refit_params = None  # type: ignore[assignment]


class Sized(Toy):
    """Its size is ten times x; its latency is measured and falls with x, as its value rises."""

    measures = ("latency_ms",)

    def static_metrics(self, params: Mapping[str, Any]) -> Mapping[str, float]:
        return {"size": 10 * params["x"]}

    def run(self, run: TrialContext) -> Mapping[str, float]:  # type: ignore[override]
        x = run.params["x"]
        for step in (1, 2):
            run.report(step, x * step / 2)
        if run.params.get("how") == "diverged":
            raise Diverged("the loss is nan")
        return {"value": x, "latency_ms": 2 * x * x, "unasked": math.nan}


class Fronted(Sized):
    """Its latency also depends on y, so that some trials better others in both metrics."""

    def run(self, run: TrialContext) -> Mapping[str, float]:  # type: ignore[override]
        metrics = dict(super().run(run))
        return {**metrics, "latency_ms": metrics["latency_ms"] + run.params["y"]}


class Silent(Sized):
    """Does not return the metric that it declares."""

    def run(self, run: TrialContext) -> float:  # type: ignore[override]
        return float(run.params["x"])


class Shared(Toy):
    """Its value is shown as a percentage."""

    percent = ("value",)


class Misdeclared(Toy):
    """Forgot a comma."""

    percent = "value"


class Probed(Toy):
    """Can be probed; x = 1 is too large, as the settings say in which way."""

    def outline(self, params: Mapping[str, Any]) -> Outline:
        return Outline(size=params["x"], remarks=("x is 1",) if params["x"] == 1.0 else ())

    def probe(self, params: Mapping[str, Any]) -> Cost:
        how = self.settings.get("probe")
        if how == "error":
            raise ValueError("a typo")
        if how == "none":
            return None  # type: ignore[return-value]
        if how == "exit":
            os._exit(0)
        if how == "all" or (params["x"] == 1.0 and self.settings.get("too_large") == "memory"):
            raise MemoryError("tried to allocate 1 TB")
        if params["x"] == 1.0 and self.settings.get("too_large") == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        return Cost(steps=4, step_seconds=1 + params["x"], start_seconds=0.5)


class Starving(Probed):
    """Is killed while its data are opened, as for want of memory, but not in the first process."""

    def fingerprint(self) -> Mapping[str, str]:
        if "FMNIST_HPO_PARENT" in os.environ:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fingerprint()


class Endless(Probed):
    """Its probe takes for ever."""

    def probe(self, params: Mapping[str, Any]) -> Cost:
        time.sleep(1000)
        raise AssertionError


def toy_spec(
    problem: str = "toy:Toy",
    *,
    name: str = "toy",
    trials: int = 6,
    budget: str = "",
    space: str = "x = { float = [0.0, 1.0] }",
    extra: str = "",
) -> str:
    """The text of a study file."""
    return (
        f'problem = "{problem}"\nname = "{name}"\nmetric = "value"\ndirection = "maximize"\n'
        f"[budget]\ntrials = {trials}\n{budget}\n[space]\n{space}\n{extra}\n"
    )
