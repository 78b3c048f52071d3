"""A real Ray of a head and two nodes on one machine."""

from typing import Any

SETTINGS = {  # read when ray is imported
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_raylet_start_wait_time_s": "180",
    "RAY_USAGE_STATS_ENABLED": "0",
}
NODE = {"num_cpus": 2, "num_gpus": 1, "object_store_memory": 80_000_000}


def start() -> Any:
    """`ray.cluster_utils.Cluster` with its nodes of two CPUs and a GPU in `nodes`."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.nodes = [cluster.add_node(**NODE) for _ in range(2)]
    return cluster
