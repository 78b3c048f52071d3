"""Downloads Fashion-MNIST: by torchvision, or else from the Debian package."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from fmnist_hpo.atomic import alone
from fmnist_hpo.data.files import FILES, verify
from fmnist_hpo.errors import InputError

__all__ = ["download"]

_PACKAGE = "dataset-fashion-mnist"
_APT_TIMEOUT_S = 600
_SCRATCH = ".fmnist-hpo-download-"  # prefix of the folder that is downloaded into


def download(target: Path) -> Path:
    """Download and verify the four files; `target` is created whole or not at all.

    One process downloads at a time. What a killed one has left beside `target` is removed.

    Raises:
        InputError: no source worked; the message gives the reason of each.
    """
    reasons = []
    for name, fetch in (("torchvision", _from_torchvision), ("apt-get", _from_debian)):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with alone(target.parent) as locked:
                if target.is_dir() and any(target.iterdir()):  # by another process
                    return target
                if locked:
                    _remove_leftovers(target.parent)
                with tempfile.TemporaryDirectory(dir=target.parent, prefix=_SCRATCH) as scratch:
                    files = fetch(Path(scratch))
                    verify(files)
                    _place(files, target)
            return target
        except (InputError, OSError, RuntimeError, subprocess.SubprocessError) as error:
            reasons.append(f"{name}: {' '.join(str(error).split())[:200]}")
    raise InputError(
        f"Fashion-MNIST is not on this machine and could not be downloaded ({'; '.join(reasons)}); "
        f"put {', '.join(f'{name}.gz' for name in FILES)} into a directory and name it with "
        "--data-dir"
    )


def _remove_leftovers(parent: Path) -> None:
    """Remove the folders of downloads that were killed; under the lock no other one runs."""
    for left in parent.glob(f"{_SCRATCH}*"):
        shutil.rmtree(left, ignore_errors=True)


def _from_torchvision(scratch: Path) -> Path:
    from torchvision.datasets import FashionMNIST

    # torchvision unpacks into FashionMNIST/raw and checks the MD5 sums of the compressed files.
    FashionMNIST(str(scratch), download=True)
    return scratch / "FashionMNIST" / "raw"


def _from_debian(scratch: Path) -> Path:
    """Use `apt-get download` and `dpkg -x`, which need no root."""
    for program in ("apt-get", "dpkg"):
        if shutil.which(program) is None:
            raise InputError(f"{program} is not installed")
    _run(["apt-get", "download", _PACKAGE], scratch)
    (package,) = scratch.glob("*.deb")
    _run(["dpkg", "-x", package.name, "unpacked"], scratch)
    return scratch / "unpacked" / "usr/share/datasets/fashion-mnist"


def _run(command: list[str], directory: Path) -> None:
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=_APT_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        raise InputError(f"{' '.join(command)} failed: {done.stderr.strip()[-200:]}")


def _place(files: Path, target: Path) -> None:
    try:
        files.replace(target)
    except OSError:
        # Another process created the folder first, from files that it verified too.
        if not target.is_dir():
            raise
