"""A plan as lines of text."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from search.plan.plan import Forecast, Plan, Range
from search.plan.simulate import LEARNING
from search.spec.space import Parameter
from search.spec.strategies import FREEZE_THAW
from search.text import clock, counted, show_params

__all__ = ["print_plan"]

_LABEL = 12  # columns
BUSY = 0.85  # a share of the processors below this is worth a warning


def print_plan(plan: Plan) -> None:
    """Print a plan."""
    for label, text in (*_head(plan), *_workers(plan), *_times(plan), *_warnings(plan)):
        print(f"{label:<{_LABEL}}{text}")


def _head(plan: Plan) -> Iterator[tuple[str, str]]:
    spec = plan.spec
    yield "study", f"{spec.name} ({spec.hash[:12]}), {spec.budget}"
    yield "sampler", f"{spec.sampler.name}: {plan.sampler_reason}"
    points = "continuous" if plan.count.points is None else f"{plan.count.points:,} points"
    branches = plan.count.branches
    names = counted(len(plan.values), "parameter")
    kinds = f", {branches} conditional branches" if branches > 1 else ""
    yield "space", f"{points}: {names}{kinds}"
    for parameter in spec.space.parameters:
        yield "", f"{parameter.name:<18}{_values(parameter, plan.values)}"
    if spec.constraints:
        text = ", ".join(map(str, spec.constraints))
        if plan.feasible is not None:
            text += (
                f"; {100 * plan.feasible:.0f} % of random configurations keep what is known of them"
            )
        yield "constraints", text
    if spec.confirm is not None:
        again = spec.confirm.top * spec.confirm.seeds
        yield "confirm", f"after the search, {counted(again, 'trial')} more, at most"
    if spec.named:
        yield "named", ", ".join(str(named.name) for named in spec.named)


def _values(parameter: Parameter, values: Mapping[str, int | None]) -> str:
    number = values[parameter.name]
    text = "continuous" if number is None else counted(number, "value")
    if parameter.for_each:
        text += f", for each of {parameter.for_each}"
    conditions = [f"{name} is {_either(wanted)}" for name, wanted in parameter.when.items()]
    text += f", when {' and '.join(conditions)}" if conditions else ""
    return text if parameter.default is None else f"{text}, default {parameter.default}"


def _either(values: Sequence[Any]) -> str:
    return " or ".join(map(str, values))


def _workers(plan: Plan) -> Iterator[tuple[str, str]]:
    text = f"{plan.workers}"
    if plan.forecast is not None:
        need = plan.forecast.probes.peak_bytes
        text += f", {_gigabytes(need)} of memory each at most"
        if plan.memory_bytes is not None:
            text += f", of {_gigabytes(plan.memory_bytes)} here"
    yield "workers", text


def _times(plan: Plan) -> Iterator[tuple[str, str]]:
    forecast = plan.forecast
    if forecast is None:
        yield (
            "times",
            f"not known: {plan.spec.problem} has no method `probe` to time a part of a trial; "
            "`run` estimates the time left once trials have ended",
        )
        return
    trial, study = forecast.trial_seconds, forecast.study_seconds
    yield (
        "trial",
        f"{_range(trial, '{low} to {high}, half of them below {middle}')} (when it is not pruned)",
    )
    yield "pruning", _pruning(plan, forecast)
    ended = ""
    if forecast.trials < plan.spec.trials:
        ended = f", {forecast.trials} of {plan.spec.trials} trials by then"
    if plan.spec.sampler.name == FREEZE_THAW:
        yield "search", f"{_range(study, '{middle} ({low} to {high})')}, when its budget is used up"
        return
    yield "search", f"{_range(study, '{middle} ({low} to {high})')}{ended}"
    if plan.spec.sampler.name in LEARNING:
        yield (
            "",
            f"if {plan.spec.sampler.name} proposes the better of two random trials, and the rank "
            "of its cost is half of a trial's quality",
        )


def _range(times: Range, form: str) -> str:
    """A range of times in a form; one time where the ends of the range read the same."""
    low, middle, high = clock(times.low), clock(times.middle), clock(times.high)
    return f"about {middle}" if low == high else form.format(low=low, middle=middle, high=high)


def _pruning(plan: Plan, forecast: Forecast) -> str:
    name = plan.spec.pruner.name
    if plan.spec.sampler.name == FREEZE_THAW:
        return "freeze-thaw: trials pause, and those go on of which most is expected"
    if name == "none":
        return "none"
    if not forecast.foreseen:
        return f"{name}: looks at the values, so what it saves is not known; counted as nothing"
    return (
        f"{name}: saves about {100 * forecast.saved:.0f} % of the steps, if a trial's rank stays "
        "what it is at its first step"
    )


def _warnings(plan: Plan) -> Iterator[tuple[str, str]]:
    for remark, example in plan.remarks.items():
        yield "warning", f"{remark}; such as {show_params(example)}"
    if plan.forecast is None:
        return
    for one in plan.forecast.probes.probes:
        if one.failure is not None:
            yield "warning", f"does not fit ({one.failure}): {show_params(one.params)}"
    if plan.forecast.share < BUSY:
        yield (
            "warning",
            f"other work left the probes {100 * plan.forecast.share:.0f} % of the processors; the "
            f"times above are without it, and with it {1 / plan.forecast.share:.1f} times as long",
        )
    need = plan.workers * plan.forecast.probes.peak_bytes
    if plan.memory_bytes is not None and need > plan.memory_bytes:
        yield (
            "warning",
            f"{plan.workers} workers need up to {_gigabytes(need)}, and there are "
            f"{_gigabytes(plan.memory_bytes)}; start fewer with --workers",
        )


def _gigabytes(number: int) -> str:
    return f"{number / 1e9:.1f} GB"
