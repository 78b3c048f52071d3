"""What a study took over from earlier ones, as it was stored when the study was created."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.spec import NamedTrial, StudySpec

__all__ = ["learns", "with_prior"]


def with_prior(spec: StudySpec, attrs: Mapping[str, Any]) -> StudySpec:
    """A spec with the trials of earlier studies.

    Args:
        attrs: the study's user attributes.
    """
    stored = attrs.get(attributes.PRIOR)
    if stored is None:
        return spec
    first = tuple(NamedTrial(**each) for each in stored["first"])
    shown = stored["trials"] if learns(spec) else []
    # Numbered up to -1, so that they stand before all trials of the study.
    earlier = tuple(_frozen(each, n - len(shown), spec) for n, each in enumerate(shown))
    return replace(spec, named=(*first, *spec.named), earlier=earlier)


def learns(spec: StudySpec) -> bool:
    """Whether the sampler takes earlier trials for trials of the study."""
    return spec.sampler.name in ("tpe", "gp")


def _frozen(stored: Mapping[str, Any], number: int, spec: StudySpec) -> FrozenTrial:
    """An earlier trial as a sampler sees it."""
    now = datetime(2000, 1, 1)  # noqa: DTZ001 - no sampler reads it
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=TrialState.COMPLETE,
        value=None,
        values=stored["values"],
        datetime_start=now,
        datetime_complete=now,
        params=dict(stored["params"]),
        distributions=spec.distributions(stored["params"]),
        user_attrs={},
        system_attrs={
            f"{attributes.CONSTRAINT}{name}": excess
            for name, excess in stored["constraints"].items()
        },
        intermediate_values={},
    )
