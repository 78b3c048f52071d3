"""Launchers of ordered workers on each engine: python engine_launchers.py ENGINE FOLDER COUNT.

As a program it starts so many workers and waits to be killed. SLURM_CONF and RAY_ADDRESS say where
the engines are.
"""

import os
import sys
import time
from pathlib import Path

from search.supervisor.launchers import Launcher

WORKER = Path(__file__).parent / "ordered_worker.py"
ROOT = Path(__file__).parents[2]
UID = "0123456789abcdef0123456789abcdef"
SECRET = "a secret"  # a variable of the workers, as a storage's URL is


def make_launcher(engine: str, folder: Path, *, cpus: float = 1, gpus: float = 0) -> Launcher:
    argv = ["-P", str(WORKER), str(folder)]
    environment = {"PYTHONPATH": str(ROOT), "FMNIST_HPO_STORAGE": SECRET}
    if engine == "local":
        from search.supervisor.launchers.local import LocalLauncher

        command = [sys.executable, *argv]
        return LocalLauncher(command, environment=environment, logs=folder / "logs")
    if engine == "slurm":
        from search.supervisor.launchers.slurm import SlurmLauncher

        options = [f"--cpus-per-task={int(cpus)}"]
        if gpus:
            options.append(f"--gres=gpu:{int(gpus)}")
        return SlurmLauncher(
            study="s",
            uid=UID,
            command=[sys.executable, *argv],
            environment=environment,
            logs=folder / "logs",
            options=options,
        )
    from search.supervisor.launchers.ray import RayLauncher

    return RayLauncher(
        argv, environment=environment, address=os.environ["RAY_ADDRESS"], cpus=cpus, gpus=gpus
    )


if __name__ == "__main__":
    launcher = make_launcher(sys.argv[1], Path(sys.argv[2]))
    launcher.start(int(sys.argv[3]))
    time.sleep(600)
