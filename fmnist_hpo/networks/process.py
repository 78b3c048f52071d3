"""Settings that belong to the whole process: torch's, and the C allocator's."""

import contextlib
import ctypes
import platform
import threading
from collections.abc import Iterator
from typing import Any

import torch

__all__ = ["keep_freed_memory", "torch_defaults"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_KEPT_BYTES = 512 << 20

# The settings belong to the process, except grad mode, autocast and a default device set by `with`.
_turn = threading.RLock()


@contextlib.contextmanager
def torch_defaults() -> Iterator[None]:
    """Compute as in a fresh process, whatever the caller has set, and leave the caller's settings.

    Covers the default dtype and device, grad and inference mode, autocast, anomaly detection,
    deterministic algorithms and the precision of float32 matrix products. So a result depends on
    its arguments alone, and a trial can be reproduced elsewhere. Blocks of several threads take
    turns, as the settings and torch's random generators belong to the process.
    """
    with _turn, contextlib.ExitStack() as stack:
        dtype = torch.get_default_dtype()
        if dtype is not torch.float32:
            stack.callback(torch.set_default_dtype, dtype)
            torch.set_default_dtype(torch.float32)
        if torch.get_default_device().type != "cpu":  # the mode costs time in every call
            stack.enter_context(torch.device("cpu"))
        if torch.are_deterministic_algorithms_enabled():
            warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
            stack.callback(torch.use_deterministic_algorithms, True, warn_only=warn_only)
            torch.use_deterministic_algorithms(False)
        backends: Any = torch.backends
        stack.enter_context(backends.flags(fp32_precision="none"))
        stack.enter_context(
            backends.mkldnn.flags(enabled=True, allow_tf32=None, fp32_precision="none")
        )
        for operation in (backends.mkldnn.matmul, backends.mkldnn.conv, backends.cuda.matmul):
            stack.callback(setattr, operation, "fp32_precision", operation.fp32_precision)
            operation.fp32_precision = "none"
        stack.enter_context(torch.autograd.set_detect_anomaly(False))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast("cpu", enabled=False))
        if torch.cuda.is_available():
            stack.enter_context(torch.autocast("cuda", enabled=False))
        yield


def keep_freed_memory() -> None:
    """Let this process keep up to 512 MB of freed memory. Only glibc has such a setting.

    By default glibc returns a step's activations to the kernel, which clears them page by page for
    the next step: a tenth of the time of a convolutional network at batch 256.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    with contextlib.suppress(OSError, AttributeError):  # only slower without it
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
