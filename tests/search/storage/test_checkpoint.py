import copy
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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


@pytest.fixture(params=["directory", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "directory":
        return str(tmp_path / "not" / "yet" / "there")
    url: str = request.getfixturevalue("s3")
    return url


PARAMS = {"x": 0.5, "units": 64, "optimizer": "adam"}


def save(store: CheckpointStore, lineage: int, data: bytes, attempt: int = 1) -> None:
    store.save(lineage, data, attempt=attempt, params=PARAMS)


def load(store: CheckpointStore, lineage: int, **options: Any) -> bytes | None:
    return store.load(lineage, **{"params": PARAMS, **options})


@pytest.mark.slow
def test_saves_replaces_and_deletes(address: str, caplog: pytest.LogCaptureFixture) -> None:
    store = CheckpointStore(address, f"uid-{uuid.uuid4().hex}")
    assert load(store, 0) is None
    for data in (os.urandom(100_000), b"", b"short"):
        save(store, 0, data)
        save(store, 1, b"of another lineage")
        assert load(store, 0, expected=True) == data
    again = copy.copy(store)
    assert load(again, 0) == b"short"
    store.delete(0)
    store.delete(0)
    assert load(store, 0) is None
    assert load(store, 1) == b"of another lineage"
    assert caplog.messages == []


def test_studies_and_scopes_do_not_share(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "one")
    save(store, 0, b"1")
    assert load(CheckpointStore(tmp_path, "two"), 0) is None
    save(store.scoped("refit"), 0, b"2")
    store.scoped("refit").delete(0)
    assert load(store, 0) == b"1"


def test_a_relative_directory_is_the_same_place_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = CheckpointStore("runs/checkpoints", "uid")
    assert store.address == str(tmp_path / "runs" / "checkpoints")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    save(store, 0, b"1")
    assert (tmp_path / "runs" / "checkpoints" / "uid").is_dir()


# Fences: what an attempt that was declared dead does when it comes back.


def test_an_older_attempt_replaces_nothing(address: str) -> None:
    store = CheckpointStore(address, f"uid-{uuid.uuid4().hex}")
    save(store, 0, b"first", attempt=1)
    assert load(store, 0, attempt=2) == b"first"
    save(store, 0, b"second", attempt=2)
    save(store, 0, b"from the dead", attempt=1)
    assert load(store, 0) == b"second"
    assert load(store, 0, attempt=3) == b"second"
    save(store, 0, b"third", attempt=3)
    store.delete(0, attempt=2)  # as the returning attempt does when it believes to have ended
    assert load(store, 0) == b"third"
    store.delete(0, attempt=3)
    assert load(store, 0) is None


def test_an_older_attempt_leaves_no_file_beside_a_later_ones(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "uid")
    save(store, 0, b"second", attempt=2)
    save(store, 0, b"from the dead", attempt=1)
    assert [file.name for file in (tmp_path / "uid").iterdir()] == ["000000.000002.checkpoint"]


def test_a_newer_attempt_leaves_one_file(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "uid")
    for attempt in range(1, 12):
        save(store, 0, b"x", attempt=attempt)
        assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


@pytest.mark.parametrize("other", ["uid", "lineage", "params"])
def test_another_ones_checkpoint_is_refused_with_one_line(
    tmp_path: Path, other: str, caplog: pytest.LogCaptureFixture
) -> None:
    writer = CheckpointStore(tmp_path, "other" if other == "uid" else "uid")
    params = {**PARAMS, "x": 0.25} if other == "params" else PARAMS
    writer.save(7 if other == "lineage" else 0, b"1", attempt=1, params=params)
    here = tmp_path / "uid" / "000000.000001.checkpoint"
    if other != "params":
        here.parent.mkdir(exist_ok=True)
        _only_file(tmp_path).rename(here)
    assert load(CheckpointStore(tmp_path, "uid"), 0, expected=True) is None
    (line,) = caplog.messages
    assert "belongs to other parameters or another study and is not used" in line


def test_parameters_of_other_types_are_the_same_ones(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "uid")
    store.save(0, b"1", attempt=1, params={"n": np.int64(3), "x": np.float64(0.1)})
    assert store.load(0, params={"x": 0.1, "n": 3}) == b"1"


def test_one_of_an_older_version_is_said_and_deleted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older = tmp_path / "uid" / "000000.checkpoint"
    older.parent.mkdir()
    data = b"data"
    older.write_bytes(
        b"checkpoint 1\n" + len(data).to_bytes(8, "big") + hashlib.sha256(data).digest() + data
    )
    store = CheckpointStore(tmp_path, "uid")
    assert load(store, 0, expected=True) is None
    (line,) = caplog.messages
    assert "is of an older version and is not used" in line
    save(store, 0, b"new", attempt=2)
    assert not older.exists()


def test_says_when_one_is_missing_and_where(address: str, caplog: pytest.LogCaptureFixture) -> None:
    store = CheckpointStore(address, "uid")
    assert load(store, 7, expected=True) is None
    (line,) = caplog.messages
    assert f"lineage 7 is missing in {store.address}; its trial starts over" in line


def _only_file(directory: Path) -> Path:
    (file,) = (path for path in directory.rglob("*") if path.is_file())
    return file


@pytest.mark.parametrize("where", [0, 5, 13, 25, 45, 47, 49, 60, 100, -1])
def test_a_changed_byte_is_noticed(
    tmp_path: Path, where: int, caplog: pytest.LogCaptureFixture
) -> None:
    store = CheckpointStore(tmp_path, "uid")
    save(store, 0, b"0123456789")
    file = _only_file(tmp_path)
    packed = bytearray(file.read_bytes())
    packed[where] ^= 1
    file.write_bytes(packed)
    assert load(store, 0, expected=True) is None
    (line,) = caplog.messages
    assert "is damaged and is not used" in line


def test_every_truncation_and_extension_is_noticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = CheckpointStore(tmp_path, "uid")
    save(store, 0, b"0123456789")
    file = _only_file(tmp_path)
    packed = file.read_bytes()
    for length in range(len(packed)):
        file.write_bytes(packed[:length])
        assert load(store, 0) is None
    file.write_bytes(packed + b"x")
    assert load(store, 0) is None
    assert len(caplog.messages) == len(packed) + 1


def test_a_damaged_one_leaves_the_attempt_before(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "uid")
    save(store, 0, b"first", attempt=1)
    (tmp_path / "uid" / "000000.000002.checkpoint").write_bytes(b"half of on")
    assert load(store, 0) == b"first"


def test_one_that_cannot_be_read_leaves_the_attempt_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = CheckpointStore(tmp_path, "uid")
    save(store, 0, b"first", attempt=1)
    (tmp_path / "uid" / "000000.000002.checkpoint").mkdir()  # reading it fails for root as well
    assert load(store, 0, expected=True) == b"first"
    (line,) = caplog.messages
    assert "000000.000002.checkpoint" in line
    assert "cannot be read ([Errno 21] Is a directory" in line


def test_one_that_cannot_be_deleted_keeps_no_later_one_from_being_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = CheckpointStore(tmp_path, "uid")
    (tmp_path / "uid" / "000000.000001.checkpoint").mkdir(parents=True)
    save(store, 0, b"first", attempt=2)
    save(store, 0, b"second", attempt=3)
    assert load(store, 0) == b"second"
    assert len(caplog.messages) == 2
    assert all("could not be deleted" in line for line in caplog.messages)
    assert [file.name for file in (tmp_path / "uid").iterdir() if file.is_file()] == [
        "000000.000003.checkpoint"
    ]


def test_what_was_half_written_when_its_writer_was_killed_is_deleted(tmp_path: Path) -> None:
    """Also where that attempt had no checkpoint yet."""
    store = CheckpointStore(tmp_path, "uid")
    folder = tmp_path / "uid"
    folder.mkdir()
    for lineage in (0, 1):
        (folder / f".00000{lineage}.000001.checkpoint.a1b2c3_8").write_bytes(b"half of on")
        assert load(store, lineage) is None
    save(store, 0, b"second", attempt=2)
    store.delete(1, attempt=1)
    assert [file.name for file in folder.iterdir()] == ["000000.000002.checkpoint"]


def test_a_store_that_fails_does_not_fail_the_trial(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    store = CheckpointStore(tmp_path / "file", "uid")
    save(store, 0, b"data")
    assert load(store, 0) is None
    store.delete(0)
    assert len(caplog.messages) == 3
    assert "could not be written" in caplog.messages[0]
    assert all("\n" not in line for line in caplog.messages)


ON_A_FULL_DISK = """
import sys
from search.storage.checkpoint import CheckpointStore
CheckpointStore("/dev/full/x", "uid").save(0, b"state", attempt=1, params={})
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_warning_into_a_log_on_a_full_disk_fails_nothing() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", ON_A_FULL_DISK],
            stdout=full,
            stderr=full,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    assert done.returncode in (0, 120)  # 120: Python could not flush its own stderr at the end


@pytest.mark.parametrize(
    "address",
    ["gs://bucket/x", "http://host/x", "s3://", "s3://key:secret@bucket/x", "s3://b/x?key=secret"],
)
def test_refuses_with_one_line(address: str) -> None:
    with pytest.raises(StorageError, match="s3://") as caught:
        CheckpointStore(address, "uid")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


WRITER = """
import sys
from search.storage.checkpoint import CheckpointStore
store = CheckpointStore(sys.argv[1], "uid")
n = 0
while True:
    n += 1
    store.save(0, bytes([n % 256]) * 3_000_000, attempt=1, params={})
    print(n, flush=True)
"""


@pytest.mark.slow
def test_killed_while_it_writes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is found afterwards is one of the checkpoints, whole; deleting leaves nothing behind."""
    store = CheckpointStore(tmp_path, "uid")
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
        data = store.load(0, params={}, expected=True)
        assert data is not None
        assert len(data) == 3_000_000
        assert len(set(data)) == 1
    assert caplog.messages == []
    store.delete(0)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
