"""What a run's numbers depend on besides its configuration: versions, processor, threads."""

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
    """Versions, processor, device and threads of this process, as recorded with every trial.

    Args:
        packages: distributions whose versions matter; those that are not installed are left out.
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
    """`describe` for what runs in torch."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return describe(("torch",), device=device, threads=torch.get_num_threads())


def threads() -> int:
    """Of this process's arithmetic: OMP_NUM_THREADS, as workers set it; else all usable cores."""
    named = os.environ.get("OMP_NUM_THREADS", "")
    if named.isdigit() and int(named) > 0:
        return int(named)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def version(name: str) -> str | None:
    """Of an installed distribution; None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """The processor's name, and its capabilities for bf16 where Linux tells them."""
    table = _cpuinfo()
    if not table:
        return platform.processor() or platform.machine()
    bf16 = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in table.get("flags", "").split()]
    return " ".join([table.get("model name", platform.machine()), *bf16])


def vendor() -> str:
    """Who made the processor, as an x86 processor says it: "GenuineIntel", "AuthenticAMD", ...

    An empty string where nothing tells.
    """
    # Windows: "Intel64 Family 6 Model 143 Stepping 8, GenuineIntel".
    return _cpuinfo().get("vendor_id", platform.processor().rpartition(", ")[2])


def _cpuinfo() -> dict[str, str]:
    """What Linux says of the last processor; nothing elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return {}
    fields = (line.split(":", 1) for line in lines if ":" in line)
    return {key.strip(): value.strip() for key, value in fields}


def gpus() -> tuple[str, ...]:
    """Indices of the NVIDIA GPUs that this process may use, without importing torch."""
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
