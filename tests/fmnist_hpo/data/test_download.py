"""Downloads, from a server on loopback and from a package made here."""

import functools
import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fmnist_hpo.data import FILES, verify
from fmnist_hpo.data.download import download
from fmnist_hpo.errors import InputError


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def mirror(fashion_dir: Path) -> Iterator[str]:
    """The four files, served on loopback."""
    handler = functools.partial(_Quiet, directory=str(fashion_dir))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import FashionMNIST

    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])  # refuses


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory in which programs are found."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    return directory


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.slow
def test_torchvisions_download(
    mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import FashionMNIST

    monkeypatch.setattr(FashionMNIST, "mirrors", [mirror])
    target = tmp_path / "cache" / "fashion-mnist"
    killed = target.parent / ".fmnist-hpo-download-k1ll3d/FashionMNIST"
    killed.mkdir(parents=True)
    assert download(target) == target
    assert verify(target) == FILES
    assert list(target.parent.iterdir()) == [target]
    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    assert download(target) == target  # another process was faster


@pytest.mark.usefixtures("no_mirror")
def test_debians_package(
    fashion_dir: Path, tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real package, unpacked by the real dpkg; only apt-get's network is replaced."""
    dpkg = shutil.which("dpkg", path="/usr/bin:/bin")
    if dpkg is None:
        pytest.skip("dpkg is not installed")
    tree = tmp_path / "tree"
    shutil.copytree(fashion_dir, tree / "usr/share/datasets/fashion-mnist")
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(
        "Package: dataset-fashion-mnist\nVersion: 0\nArchitecture: all\n"
        "Maintainer: Nobody <nobody@example.org>\nDescription: images\n"
    )
    package = tmp_path / "dataset-fashion-mnist_0_all.deb"
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    subprocess.run(["dpkg-deb", "-Znone", "-b", tree, package], check=True)
    program(
        programs / "apt-get", f'[ "$1 $2" = "download dataset-fashion-mnist" ] && cp {package} .'
    )
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    target = tmp_path / "cache" / "fashion-mnist"
    assert download(target) == target
    assert verify(target) == FILES


@pytest.mark.usefixtures("no_mirror")
def test_why_nothing_worked(tmp_path: Path, programs: Path) -> None:
    program(programs / "apt-get", "echo E: no network >&2; exit 100")
    program(programs / "dpkg", "exit 1")
    target = tmp_path / "cache" / "fashion-mnist"
    with pytest.raises(InputError) as caught:
        download(target)
    message = str(caught.value)
    assert "torchvision: Error downloading" in message
    assert "apt-get download dataset-fashion-mnist failed: E: no network" in message
    assert "--data-dir" in message
    assert "\n" not in message
    assert list(target.parent.iterdir()) == []


@pytest.mark.usefixtures("no_mirror", "programs")
def test_no_debian(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="apt-get is not installed"):
        download(tmp_path / "fashion-mnist")
