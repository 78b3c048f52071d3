"""A study on a real Ray cluster: a killed worker, actor and driver, a node that is removed."""

import os
import signal
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from exact import check_exact

pytestmark = [
    pytest.mark.slow,
    pytest.mark.process,
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
    pytest.mark.skipif(find_spec("ray") is None, reason="the extra ray is not installed"),
]

SETTINGS = {  # read when ray is imported
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_raylet_start_wait_time_s": "180",
    "RAY_USAGE_STATS_ENABLED": "0",
}
NODE = {
    "num_cpus": 2,
    "num_gpus": 1,
    "object_store_memory": 80_000_000,
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    """A head and two nodes of two CPUs, each a raylet of its own."""
    before = {name: os.environ.get(name) for name in SETTINGS}
    os.environ.update(SETTINGS)
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "include_dashboard": False,
            "object_store_memory": 80_000_000,
        },
    )
    made.nodes = [made.add_node(**NODE) for _ in range(2)]
    yield made
    made.shutdown()
    for name, value in before.items():
        if value is None:
            os.environ.pop(name)


@pytest.fixture
def on_ray(cluster, runner):
    return runner({**os.environ, "RAY_ADDRESS": cluster.address})


def pids(study, marker: bytes):
    """Processes of this study's workers, or of their actors: those with `marker` in their argv."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                with open(f"/proc/{entry.name}/cmdline", "rb") as file:  # noqa: PTH123
                    if marker in file.read():
                        found.append(int(entry.name))
            except OSError:
                continue
    return found


def ended(study):
    return study.ledger.counts().done


def test_worker_actor_and_driver_may_be_killed_and_a_node_may_go(cluster, on_ray, until):
    study = on_ray.create(trials=24, pause=0.5, steps=5)
    argv = ("--on", "ray", "--workers", "3", "--gpus-per-worker", "0.5")
    first = on_ray.start(*argv)
    until(lambda: ended(study) >= 2 and pids(study, b"search\0worker"), "trials end on Ray", 200)
    os.kill(pids(study, b"search\0worker")[0], signal.SIGKILL)
    until(lambda: ended(study) >= 5, "trials go on after a worker was killed")
    actors = pids(study, b"ray::_Slot")
    os.kill(actors[0], signal.SIGKILL)
    until(lambda: ended(study) >= 8, "trials go on after an actor was killed")
    cluster.remove_node(cluster.nodes.pop(), allow_graceful=False)
    cluster.nodes.append(cluster.add_node(**NODE))
    until(lambda: ended(study) >= 11, "trials go on after a node was removed", 120)
    first.kill()
    first.wait()
    again = on_ray.start(*argv)
    output, _ = again.communicate(timeout=250)
    assert again.returncode == 0, output
    check_exact(study)


def test_ctrl_c_releases_everywhere(cluster, on_ray, until):
    study = on_ray.create(trials=50, pause=0.5, steps=5)
    process = on_ray.start("--on", "ray", "--workers", "2")
    until(lambda: study.ledger.counts().running == 2, "both workers hold a trial", 200)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 130, output
    assert study.ledger.counts().running == 0
    assert study.ledger.counts().lost_attempts == 0
