"""The environment that a result depends on: versions, processor, device, threads."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

__all__ = ["describe", "describe_torch", "gpus", "processor", "threads", "vendor", "version"]

_ALWAYS = ("fmnist-hpo", "numpy", "optuna")


def describe(packages: Iterable[str], *, device: str, threads: int) -> Mapping[str, str]:
    """Describe this process's environment, as it is stored with every trial.

    Args:
        packages: distributions whose versions matter; those that are not installed are left out.
        device: "cpu", or the name of the GPU.
        threads: that the arithmetic uses.
    """
    return {
        "python": platform.python_version(),
        **{name: found for name in (*_ALWAYS, *packages) if (found := version(name))},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "device": device,
        "threads": str(threads),
    }


def describe_torch() -> Mapping[str, str]:
    """Describe the environment of a training in torch, see `describe`."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return describe(("torch", "schedulefree"), device=device, threads=torch.get_num_threads())


def threads() -> int:
    """The number of threads for arithmetic: OMP_NUM_THREADS if set, else all usable cores.

    Workers set OMP_NUM_THREADS for their trials.
    """
    named = os.environ.get("OMP_NUM_THREADS", "")
    if named.isdigit() and int(named) > 0:
        return int(named)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def version(name: str) -> str | None:
    """The version of a distribution, or None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """The processor's name, followed on Linux by those of its instruction sets that use bf16."""
    table = _cpuinfo()
    if not table:
        return platform.processor() or platform.machine()
    bf16 = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in table.get("flags", "").split()]
    return " ".join([table.get("model name", platform.machine()), *bf16])


def vendor() -> str:
    """The vendor string of an x86 processor, such as "GenuineIntel"; empty if it is unknown."""
    # On Windows: "Intel64 Family 6 Model 143 Stepping 8, GenuineIntel".
    return _cpuinfo().get("vendor_id", platform.processor().rpartition(", ")[2])


def _cpuinfo() -> dict[str, str]:
    """The fields of the last processor in /proc/cpuinfo; empty on other systems than Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return {}
    fields = (line.split(":", 1) for line in lines if ":" in line)
    return {key.strip(): value.strip() for key, value in fields}


def gpus() -> tuple[str, ...]:
    """Indices or UUIDs of the NVIDIA GPUs that this process may use, without importing torch.

    CUDA_VISIBLE_DEVICES if it is set, else what `nvidia-smi` lists.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(part.strip() for part in visible.split(",") if part.strip() not in ("", "-1"))
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    listed = subprocess.run(
        [tool, "--query-gpu=index", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    )
    return tuple(listed.stdout.split()) if listed.returncode == 0 else ()
