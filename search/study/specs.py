"""The spec of a study under each of its amendments, and which trials lie in the present space."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial

from search import attributes
from search.ledger.amendments import Amendment, given
from search.spec import StudySpec
from search.spec.amend import amended
from search.spec.strategies import AUTO
from search.spec.values import equal

__all__ = ["Specs"]


class Specs:
    """The specs of one study; number 0 is that of its creation, n that since amendment n.

    Args:
        frozen: the spec of the study's creation, with the sampler that was chosen for it.
        more: returns the amendments after a number, as they stand in the storage.

    Attributes:
        amendments: those that were noticed by the last `refresh`, oldest first.
    """

    def __init__(
        self, frozen: StudySpec, more: Callable[[int], Sequence[Amendment]] = lambda _: ()
    ) -> None:
        self.frozen = frozen
        self.amendments: tuple[Amendment, ...] = ()
        self._read: tuple[Amendment, ...] = ()  # those of trials of others may be newer
        self._more = more
        self._known = {0: frozen}

    def refresh(self) -> bool:
        """Take notice of what was amended since; whether anything was."""
        before = len(self.amendments)
        self._read_on()
        self.amendments = self._read
        return len(self.amendments) > before

    def _read_on(self) -> None:
        self._read = (*self._read, *self._more(len(self._read)))

    @property
    def present(self) -> StudySpec:
        """The spec since the last amendment."""
        return self.under(len(self.amendments))

    def under(self, number: int) -> StudySpec:
        """The spec since an amendment; 0: before the first."""
        if number > len(self._read):  # another process knows more than this one
            self._read_on()
        if number not in self._known:
            one = self._read[number - 1]
            spec = amended(self.frozen, one.spec, given(self._read[:number]))
            if spec.sampler.name == AUTO:
                spec = spec.with_sampler(self.frozen.sampler.name)
            self._known[number] = spec
        return self._known[number]

    def of(self, trial: FrozenTrial) -> StudySpec:
        """The spec by which a trial was proposed."""
        return self.under(_number(trial))

    def params(self, trial: FrozenTrial) -> dict[str, Any]:
        """Every parameter of a trial: `[fixed]` of its time and its own."""
        return {**self.of(trial).fixed, **trial.params}

    def since(self, number: int) -> Callable[[FrozenTrial], FrozenTrial | None] | None:
        """How the sampler of the spec with that number sees a trial; None: as it is.

        A trial that was proposed by a spec with another space is seen with the parameters that it
        has in this one, or not at all if it lies outside.
        """
        here = self.under(number)
        same = {n: _same_space(self.under(n), here) for n in range(len(self.amendments) + 1)}
        if all(same.values()):
            return None
        known: dict[int, FrozenTrial | None] = {}  # by number, of trials that change no more

        def see(trial: FrozenTrial) -> FrozenTrial | None:
            of = _number(trial)
            if of not in same:
                same[of] = _same_space(self.under(of), here)
            if same[of]:
                return trial
            if trial.number in known:
                return known[trial.number]
            seen = _moved(trial, self.params(trial), here)
            if trial.state.is_finished():
                known[trial.number] = seen
            return seen

        return see


def _number(trial: FrozenTrial) -> int:
    return int(trial.user_attrs.get(attributes.AMENDMENT, 0))


def _same_space(one: StudySpec, other: StudySpec) -> bool:
    return one.space == other.space and equal(one.fixed, other.fixed)


def _moved(trial: FrozenTrial, params: Mapping[str, Any], spec: StudySpec) -> FrozenTrial | None:
    """A trial with the parameters that it has in another space; None if it lies outside."""
    point = spec.space.point_of(params, spec.fixed)
    if point is None:
        return None
    seen = copy.copy(trial)
    seen.distributions = spec.distributions(point)
    seen.params = point
    return seen
