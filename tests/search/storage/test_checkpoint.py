import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.artifacts import FileSystemArtifactStore

from search.errors import StorageError
from search.storage.checkpoint import CheckpointStore

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    """An S3-compatible server on loopback, in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(20)


@pytest.fixture
def s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a bucket."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3_endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    import boto3

    boto3.client("s3").create_bucket(Bucket="runs")
    return "s3://runs/some/prefix"


class Says(list[str]):
    def __call__(self, line: str) -> None:
        self.append(line)


@pytest.fixture(params=["directory", "s3", "artifacts"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> object:
    if request.param == "directory":
        return str(tmp_path / "not" / "yet" / "there")
    if request.param == "s3":
        return request.getfixturevalue("s3")
    (tmp_path / "uid").mkdir()
    return FileSystemArtifactStore(tmp_path)


def test_saves_replaces_and_deletes(address: object) -> None:
    says = Says()
    store = CheckpointStore(address, "uid", warn=says)  # type: ignore[arg-type]
    assert store.load(0) is None
    for data in (os.urandom(100_000), b"", b"short"):
        store.save(0, data)
        store.save(1, b"of another lineage")
        assert store.load(0, expected=True) == data
    again = CheckpointStore(address, "uid", warn=says)  # type: ignore[arg-type]
    assert again.load(0) == b"short"
    store.delete(0)
    store.delete(0)
    assert store.load(0) is None
    assert store.load(1) == b"of another lineage"
    assert says == []


def test_studies_do_not_share(tmp_path: Path) -> None:
    CheckpointStore(tmp_path, "one").save(0, b"1")
    assert CheckpointStore(tmp_path, "two").load(0) is None


def test_says_when_one_is_missing(address: object) -> None:
    says = Says()
    assert CheckpointStore(address, "uid", warn=says).load(7, expected=True) is None  # type: ignore[arg-type]
    assert len(says) == 1
    assert "lineage 7 is missing; its trial starts over" in says[0]


def _only_file(directory: Path) -> Path:
    (file,) = (path for path in directory.rglob("*") if path.is_file())
    return file


@pytest.mark.parametrize("where", [0, 5, 13, 25, 53, 60, -1])
def test_a_changed_byte_is_noticed(tmp_path: Path, where: int) -> None:
    says = Says()
    store = CheckpointStore(tmp_path, "uid", warn=says)
    store.save(0, b"0123456789")
    file = _only_file(tmp_path)
    packed = bytearray(file.read_bytes())
    packed[where] ^= 1
    file.write_bytes(packed)
    assert store.load(0) is None
    assert "damaged; its trial starts over" in says[0]


def test_every_truncation_and_extension_is_noticed(tmp_path: Path) -> None:
    says = Says()
    store = CheckpointStore(tmp_path, "uid", warn=says)
    store.save(0, b"0123456789")
    file = _only_file(tmp_path)
    packed = file.read_bytes()
    for length in range(len(packed)):
        file.write_bytes(packed[:length])
        assert store.load(0) is None
    file.write_bytes(packed + b"x")
    assert store.load(0) is None
    assert len(says) == len(packed) + 1


def test_a_store_that_fails_does_not_fail_the_trial(tmp_path: Path) -> None:
    says = Says()
    (tmp_path / "file").touch()
    store = CheckpointStore(tmp_path / "file", "uid", warn=says)
    store.save(0, b"data")
    assert store.load(0) is None
    assert len(says) == 2
    assert "could not be written" in says[0]
    assert "could not be read" in says[1]
    assert all("\n" not in line for line in says)


@pytest.mark.parametrize("address", ["gs://bucket/x", "http://host/x", "s3://"])
def test_refuses_with_one_line(address: str) -> None:
    with pytest.raises(StorageError, match="s3://") as caught:
        CheckpointStore(address, "uid")
    assert "\n" not in str(caught.value)


WRITER = """
import sys
from search.storage.checkpoint import CheckpointStore
store = CheckpointStore(sys.argv[1], "uid")
n = 0
while True:
    n += 1
    store.save(0, bytes([n % 256]) * 3_000_000)
    print(n, flush=True)
"""


def test_killed_while_it_writes(tmp_path: Path) -> None:
    """What is found afterwards is one of the checkpoints, whole; deleting leaves nothing behind."""
    says = Says()
    store = CheckpointStore(tmp_path, "uid", warn=says)
    for kill in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        time.sleep(0.007 * kill)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        data = store.load(0, expected=True)
        assert data is not None
        assert len(data) == 3_000_000
        assert len(set(data)) == 1
    assert says == []
    store.delete(0)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
