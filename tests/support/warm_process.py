"""Commands in processes that have loaded the libraries already.

Each is a fork of multiprocessing's fork server. It has a memory, an environment, a folder, an
output and an exit code of its own, as every command; spared is the loading of torch and its like,
which takes longer than most commands do. The processes that it starts are ordinary ones.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

__all__ = ["run_warm"]

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([
    "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg", "onnxruntime",
    "onnxscript", "optuna_dashboard", "pandas", "psycopg", "rich.live", "scipy.stats",
    "sklearn.ensemble", "sklearn.metrics", "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite", "torch._dynamo", "torch.onnx", "torchvision", "xgboost",
])  # fmt: skip


def run_warm(
    module: str, *argv: str, folder: Path, environment: Mapping[str, str], timeout: float
) -> "subprocess.CompletedProcess[str]":
    """`python -m module argv...`, to its end.

    Raises:
        subprocess.TimeoutExpired: it did not end in `timeout` seconds and was killed.
    """
    with tempfile.TemporaryDirectory() as name:
        out, err = Path(name, "out"), Path(name, "err")
        process = _CONTEXT.Process(
            target=_become, args=(module, argv, folder, dict(environment), out, err)
        )
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            process.close()
            raise subprocess.TimeoutExpired([module, *argv], timeout, out.read_text())
        code = process.exitcode
        process.close()
        return subprocess.CompletedProcess([module, *argv], code, out.read_text(), err.read_text())


def _become(
    module: str,
    argv: tuple[str, ...],
    folder: Path,
    environment: dict[str, str],
    out: Path,
    err: Path,
) -> None:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    import torch  # it read the variable when the server loaded it

    every_core = len(os.sched_getaffinity(0))
    torch.set_num_threads(int(environment.get("OMP_NUM_THREADS", every_core)))
    sys.path.insert(0, str(folder))
    sys.argv = [module, *argv]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
