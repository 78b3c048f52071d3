"""How a worker waits while there is nothing to claim."""

import random

from search.worker.idle import SHORTEST_SECONDS, Idle

HEARTBEAT = 5.0


def pauses(idle, seconds, start=0.0):
    """The waits of a worker that is idle for so long."""
    now, found = start, []
    while now < start + seconds:
        found.append(idle.pause(now))
        now += found[-1]
    return found


def test_waits_grow_with_the_time_of_idling_and_end_at_a_heartbeat():
    idle = Idle(HEARTBEAT)
    found = pauses(idle, 600)
    assert 0 < found[0] <= SHORTEST_SECONDS
    assert max(found[-20:]) <= HEARTBEAT
    assert min(found[-20:]) >= HEARTBEAT / 2
    assert len(found) < 600 / SHORTEST_SECONDS / 2
    # A worker notices the end late by a tenth of its idle time, or by the shortest wait.
    waited = 0.0
    for pause in found:
        assert pause <= max(SHORTEST_SECONDS, 0.1 * waited)
        waited += pause
    idle.end()
    assert idle.pause(1000.0) <= SHORTEST_SECONDS


def test_a_study_of_fast_heartbeats_is_looked_at_as_often():
    assert max(pauses(Idle(0.2), 10)) <= 0.2


def test_workers_that_become_idle_together_do_not_look_together():
    first = []
    for _ in range(50):
        random.seed(0)  # as each problem may do
        first.append(Idle(HEARTBEAT).pause(0.0))
    assert len(set(first)) == 50
