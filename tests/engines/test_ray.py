"""A study on a real Ray cluster: what may be killed, and a node that is removed."""

import os
import signal
from importlib.util import find_spec

import pytest
from exact import check_exact
from holders import holders, variable
from ray_cluster import NODE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.process,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
    pytest.mark.skipif(find_spec("ray") is None, reason="the extra ray is not installed"),
]

ARGV = ("--on", "ray", "--workers", "3", "--gpus-per-worker", "0.5")


def parent(pid):
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        return int(file.read().rpartition(")")[2].split()[1])


def changed_after(study, until, what, gone):
    """Wait until three workers hold a trial, and none that is gone does.

    One that was asked to leave may hold its trial for a while beside those that take its place.
    """

    def changed():
        now = holders(study).keys()
        return len(now) == 3 and now.isdisjoint(gone)

    until(changed, f"three workers hold a trial after {what}")


def workers_of(node, running):
    """The names of those that run on a node: a worker's actor is a child of the node's raylet."""
    (raylet,) = node.all_processes["raylet"]
    return [name for name, pid in running.items() if parent(parent(pid)) == raylet.process.pid]


def test_worker_actor_and_driver_may_be_killed(cluster_of_ray, runner, until):
    run = runner({**os.environ, "RAY_ADDRESS": cluster_of_ray.address})
    study = run.create(trials=4)
    first = run.start(*ARGV)
    changed_after(study, until, "the start", ())
    # Three workers on two GPUs, one on each node.
    devices = [variable(pid, "CUDA_VISIBLE_DEVICES") for pid in holders(study).values()]
    assert devices == ["0", "0", "0"]

    name, pid = next(iter(holders(study).items()))
    os.kill(pid, signal.SIGKILL)
    changed_after(study, until, "a worker was killed", [name])
    assert study.ledger.counts().lost_attempts == 1

    name, pid = next(iter(holders(study).items()))
    os.kill(parent(pid), signal.SIGKILL)
    changed_after(study, until, "an actor was killed", [name])
    until(lambda: study.ledger.counts().lost_attempts == 1, "no other loss counts")

    before = holders(study)
    first.kill()
    first.communicate()
    again = run.start(*ARGV)
    changed_after(study, until, "the driver was killed", before.keys())
    again.send_signal(signal.SIGINT)
    output, _ = again.communicate(timeout=100)
    assert again.returncode == 130, output
    assert study.ledger.counts().running == 0
    assert study.ledger.counts().lost_attempts == 1

    run.open_gate()
    output, _ = run.start(*ARGV).communicate(timeout=200)
    assert "4 of 4 trials ended" in output
    check_exact(study)


def test_a_raylet_may_be_killed_and_a_node_removed(cluster_of_ray, runner, until):
    run = runner({**os.environ, "RAY_ADDRESS": cluster_of_ray.address})
    study = run.create(trials=4)
    process = run.start(*ARGV)
    changed_after(study, until, "the start", ())

    node = cluster_of_ray.nodes.pop()
    gone = workers_of(node, holders(study))
    (raylet,) = node.all_processes["raylet"]
    os.kill(raylet.process.pid, signal.SIGKILL)
    cluster_of_ray.nodes.append(cluster_of_ray.add_node(**NODE))
    changed_after(study, until, "a raylet was killed", gone)

    node = cluster_of_ray.nodes.pop()
    gone = workers_of(node, holders(study))
    cluster_of_ray.remove_node(node, allow_graceful=False)
    cluster_of_ray.nodes.append(cluster_of_ray.add_node(**NODE))
    changed_after(study, until, "a node was removed", gone)
    until(lambda: study.ledger.counts().lost_attempts == 0, "no loss counts")

    run.open_gate()
    output, _ = process.communicate(timeout=200)
    assert "4 of 4 trials ended" in output
    check_exact(study)
