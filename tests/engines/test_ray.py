"""A study on a real Ray cluster: what may be killed, and a node that is removed."""

import os
import signal
from importlib.util import find_spec

import pytest
from conftest import RAY_NODE
from exact import check_exact
from holders import holders, variable

pytestmark = [
    pytest.mark.slow,
    pytest.mark.process,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
    pytest.mark.skipif(find_spec("ray") is None, reason="the extra ray is not installed"),
]

ARGV = ("--on", "ray", "--workers", "3", "--gpus-per-worker", "0.5")


def parent(pid):
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        return int(file.read().rpartition(")")[2].split()[1])


def test_whatever_is_killed_the_study_goes_on(ray_cluster, runner, until):
    run = runner({**os.environ, "RAY_ADDRESS": ray_cluster.address})
    study = run.create(trials=4)

    def changed_after(what, before):
        until(
            lambda: len(holders(study)) == 3 and holders(study).keys() != before,
            f"three workers hold a trial after {what}",
            120,
        )

    first = run.start(*ARGV)
    changed_after("the start", {})
    # Three workers on two GPUs, one on each node.
    devices = [variable(pid, "CUDA_VISIBLE_DEVICES") for pid in holders(study).values()]
    assert devices == ["0", "0", "0"]

    before = holders(study)
    os.kill(next(iter(before.values())), signal.SIGKILL)
    changed_after("a worker was killed", before.keys())
    assert study.ledger.counts().lost_attempts == 1

    before = holders(study)
    os.kill(parent(next(iter(before.values()))), signal.SIGKILL)
    changed_after("an actor was killed", before.keys())

    before = holders(study)
    (raylet,) = ray_cluster.nodes.pop().all_processes["raylet"]
    os.kill(raylet.process.pid, signal.SIGKILL)
    ray_cluster.nodes.append(ray_cluster.add_node(**RAY_NODE))
    changed_after("a raylet was killed", before.keys())

    before = holders(study)
    ray_cluster.remove_node(ray_cluster.nodes.pop(), allow_graceful=False)
    ray_cluster.nodes.append(ray_cluster.add_node(**RAY_NODE))
    changed_after("a node was removed", before.keys())
    until(lambda: study.ledger.counts().lost_attempts == 1, "no other loss counts")

    before = holders(study)
    first.kill()
    first.communicate()
    again = run.start(*ARGV)
    changed_after("the driver was killed", before.keys())
    again.send_signal(signal.SIGINT)
    output, _ = again.communicate(timeout=100)
    assert again.returncode == 130, output
    assert study.ledger.counts().running == 0
    assert study.ledger.counts().lost_attempts == 1

    run.open_gate()
    output, _ = run.start(*ARGV).communicate(timeout=200)
    assert "4 of 4 trials ended" in output
    check_exact(study)
