"""A study played through, against what can be counted by hand."""

import random
import statistics

import pytest
from toy import toy_spec

from search.plan.simulate import Simulation, simulate
from search.problem import Cost
from search.spec import parse_spec

COST = Cost(steps=5, step_seconds=2.0, start_seconds=1.0)  # 11 seconds


def play(extra: str = "", *, trials: int = 7, workers: int = 2, seed: int = 0) -> Simulation:
    spec = parse_spec(toy_spec(trials=trials, extra=extra), where="here")
    return simulate(spec, [COST], workers=workers, start_seconds=3.0, chance=random.Random(seed))


def test_without_a_pruner_the_workers_share_the_trials() -> None:
    played = play()
    assert played == Simulation(seconds=3 + 4 * 11, ended=7, steps=35, steps_unpruned=35)
    assert play(workers=7).seconds == 3 + 11


def test_after_the_hours_no_trial_starts() -> None:
    text = toy_spec(trials=7).replace("trials = 7", f"trials = 7\nhours = {20 / 3600}")
    spec = parse_spec(text, where="here")
    played = simulate(spec, [COST], workers=2, start_seconds=3.0, chance=random.Random(0))
    assert (played.ended, played.seconds) == (4, 3 + 2 * 11)  # started at 3 and at 14 seconds


@pytest.mark.parametrize(
    ("limit", "cost", "steps"),
    [
        (6.0, COST, 2),  # the limit counts from the trial's start; the third step is broken off
        (900.0, Cost(steps=5, step_seconds=600.0, start_seconds=0.0), 1),
        (100.0, Cost(steps=5, step_seconds=30.0, start_seconds=80.0), 0),
        (6.0, Cost(steps=5, step_seconds=0.0, start_seconds=8.0), 0),
    ],
)
def test_a_time_limit_ends_a_trial(limit: float, cost: Cost, steps: int) -> None:
    spec = parse_spec(
        toy_spec(trials=2, extra=f"[workers]\ntrial_timeout_seconds = {limit}"), where="here"
    )
    played = simulate(spec, [cost], workers=2, start_seconds=3.0, chance=random.Random(0))
    assert (played.seconds, played.steps, played.ended) == (3 + limit, 2 * steps, 2)


def test_a_time_limit_that_is_not_reached_changes_nothing() -> None:
    pruner = '[pruner]\nname = "hyperband"\n'
    assert play(pruner, trials=30) == play(
        f"{pruner}[workers]\ntrial_timeout_seconds = 11.0", trials=30
    )


def test_the_hours_begin_when_the_workers_are_ready() -> None:
    spec = parse_spec(toy_spec().replace("trials = 6", "trials = 6\nhours = 1e-6"), where="here")
    played = simulate(spec, [COST], workers=2, start_seconds=3.0, chance=random.Random(0))
    assert (played.ended, played.seconds) == (2, 3 + 11)


@pytest.mark.slow
@pytest.mark.parametrize(("factor", "trials"), [(2, 12), (3, 20)])
def test_successive_halving_lets_as_many_pass_as_it_should(factor: int, trials: int) -> None:
    """Of n values in random order the n-th is among the best n // factor of them, at least 1."""
    extra = (
        '[sampler]\nname = "random"\n'
        f'[pruner]\nname = "successive-halving"\nmin_resource = 4\nreduction_factor = {factor}'
    )
    played = [play(extra, trials=trials, workers=1, seed=seed) for seed in range(300)]
    passed = statistics.mean(one.steps - 4 * trials for one in played)  # each runs a fifth step
    expected = sum(max(1, n // factor) / n for n in range(1, trials + 1))
    assert passed == pytest.approx(expected, rel=0.05)


def test_control_and_audited_trials_run_to_their_end() -> None:
    pruner = '[pruner]\nname = "successive-halving"\nmin_resource = 1\n'
    searched = play(pruner, trials=20)
    assert searched.steps < searched.steps_unpruned == 100
    audited = play(f"{pruner}[audit]\nfraction = 1.0", trials=20)
    assert audited.steps == 100
    controlled = play(f"{pruner}[control]\ntrials = 10", trials=20)
    assert 10 * 5 + 10 <= controlled.steps < 100


def test_pruners_that_look_at_the_values_are_left_out() -> None:
    assert play('[pruner]\nname = "threshold"\nlower = 2.0').steps == 35


def test_a_sampler_that_learns_is_pruned_less_from_its_first_proposal_on() -> None:
    pruner = '[pruner]\nname = "successive-halving"\nmin_resource = 1\nreduction_factor = 3\n'

    def steps(sampler: str) -> float:
        extra = f"[sampler]\n{sampler}\n{pruner}"
        return statistics.mean(play(extra, trials=60, seed=seed).steps for seed in range(20))

    randomly = steps('name = "random"')
    assert steps('name = "tpe"\nn_startup_trials = 60') == randomly
    assert 1.05 * randomly < steps('name = "tpe"\nn_startup_trials = 10') < 60 * 5


def test_a_sampler_that_learns_comes_to_prefer_costly_trials() -> None:
    cheap, costly = Cost(steps=5, step_seconds=1.0, start_seconds=0.0), COST

    def seconds(sampler: str) -> float:
        spec = parse_spec(
            toy_spec(trials=40, extra=f'[sampler]\nname = "{sampler}"\n'), where="here"
        )
        played = [
            simulate(
                spec, [cheap, costly, None], workers=1, start_seconds=0, chance=random.Random(seed)
            )
            for seed in range(20)
        ]
        return statistics.mean(one.seconds for one in played)

    assert seconds("random") == pytest.approx(20 * 5 + 20 * 11, rel=0.05)
    # a costly one is better than any cheap one, and three of four pairs have one
    assert seconds("tpe") == pytest.approx(10 * 8 + 30 * (0.25 * 5 + 0.75 * 11), rel=0.05)


def test_named_and_drawn_trials_have_costs_of_their_own_kind() -> None:
    cheap, costly = Cost(steps=5, step_seconds=1.0, start_seconds=0.0), COST
    named = "".join(f'[[trials]]\nname = "t{i}"\nparams = {{ x = 0.5 }}\n' for i in range(20))
    extra = f'[sampler]\nname = "tpe"\nn_startup_trials = 1\n{named}'
    spec = parse_spec(toy_spec(trials=30, extra=extra), where="here")
    costs = [cheap, *[None] * 19, costly]
    played = simulate(spec, costs, workers=1, start_seconds=0, chance=random.Random(0))
    assert played.seconds == 20 * 5 + 10 * 11


def test_the_better_of_two_is_better_in_either_direction() -> None:
    def steps(direction: str) -> float:
        text = toy_spec(
            trials=60,
            extra='[pruner]\nname = "successive-halving"\nmin_resource = 1\nreduction_factor = 3\n',
        ).replace("maximize", direction)
        spec = parse_spec(text, where="here")
        return simulate(spec, [COST], workers=1, start_seconds=0, chance=random.Random(0)).steps

    assert steps("minimize") == steps("maximize")


def test_after_the_steps_no_trial_starts() -> None:
    spec = parse_spec(toy_spec(trials=7, budget="steps = 19"), where="here")
    played = simulate(spec, [COST], workers=2, start_seconds=3.0, chance=random.Random(0))
    assert (played.ended, played.steps, played.seconds) == (4, 20, 3 + 2 * 11)
