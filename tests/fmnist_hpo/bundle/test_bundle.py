"""Bundles on disk: every byte is checked, and a folder appears whole or not at all."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from fmnist_hpo import atomic
from fmnist_hpo.atomic import _put_in_place, write_folder
from fmnist_hpo.bundle import Bundle, to_json
from fmnist_hpo.bundle.bundle import FORMAT
from fmnist_hpo.errors import InputError

FILES = {
    "model.safetensors": bytes(range(256)) * 8,
    "provenance.json": to_json({"study": "one", "study_uid": "1"}),
    "figures/curves.png": b"\x89PNG not really",
}

HUGE = 1 << 42  # bytes


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.write(tmp_path / "bundle", FILES)


def test_what_is_written_is_read(bundle: Bundle) -> None:
    assert Bundle.open(bundle.path).files == FILES


def test_the_manifest_agrees_with_sha256sum(bundle: Bundle) -> None:
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    for name, record in manifest["files"].items():
        done = subprocess.run(
            ["sha256sum", bundle.path / name], check=True, capture_output=True, text=True
        )
        assert done.stdout.split()[0] == record["sha256"]
    assert manifest["files"].keys() == FILES.keys()


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_any_changed_byte_is_found(bundle: Bundle, name: str) -> None:
    path = bundle.path / name
    data = path.read_bytes()
    for position in {*range(0, len(data), 7), len(data) - 1}:
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises(InputError) as caught:
            Bundle.open(bundle.path)
        assert "\n" not in str(caught.value)
        assert "expected" in str(caught.value)
        assert "found" in str(caught.value)
    path.write_bytes(data)
    assert Bundle.open(bundle.path).files == FILES


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
@pytest.mark.parametrize("change", ["one more", "one less"])
def test_an_extra_or_a_missing_byte_is_found(bundle: Bundle, name: str, change: str) -> None:
    path = bundle.path / name
    data = path.read_bytes()
    path.write_bytes(data + b" " if change == "one more" else data[:-1])
    with pytest.raises(InputError, match=rf"{name} was changed: expected .*found .*; export"):
        Bundle.open(bundle.path)


def test_a_missing_file_is_named(bundle: Bundle) -> None:
    (bundle.path / "figures/curves.png").unlink()
    with pytest.raises(InputError, match=r"figures/curves\.png is missing: expected 15 bytes"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize("name", ["notes.txt", ".DS_Store", "figures/more/x.png"])
def test_a_file_that_is_not_the_bundles_is_warned_of_and_kept(
    bundle: Bundle, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    (bundle.path / name).parent.mkdir(exist_ok=True)
    (bundle.path / name).write_text("mine")
    assert Bundle.open(bundle.path).files == FILES
    (line,) = [record.getMessage() for record in caplog.records]
    assert re.search(rf"ignored {re.escape(name)}, which is not in manifest\.json", line)
    Bundle.write(bundle.path, {**FILES, "model.safetensors": b"newer"})
    assert (bundle.path / name).read_text() == "mine"


def test_a_foreign_name_cannot_reach_the_terminal_as_escape_codes(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    (bundle.path / "\x1b]0;title\x07\n.png").touch()
    Bundle.open(bundle.path)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.isprintable()
    assert r"\x1b]0;title\x07\n.png" in line


@pytest.mark.parametrize(
    "manifest",
    [
        "[]",
        "{",
        '{"files": 3}',
        '{"format": "fmnist-hpo bundle 2", "files": {"a": 3}}',
        '{"format": "fmnist-hpo bundle 2", "files": {"../a": {"bytes": 0}}}',
        "\ufeff\x00",
        # as `export` writes it but for one record
        to_json({"format": FORMAT, "files": {"config.json": ["bytes", "sha256"]}}).decode(),
    ],
)
def test_a_nonsense_manifest_is_one_line(bundle: Bundle, manifest: str) -> None:
    (bundle.path / "manifest.json").write_text(manifest)
    with pytest.raises(InputError, match=r"manifest\.json was changed"):
        Bundle.open(bundle.path)


def manifest_of(size: int, name: str = "big") -> bytes:
    return to_json({"format": FORMAT, "files": {name: {"bytes": size, "sha256": "0" * 64}}})


def test_sizes_are_compared_before_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "big").touch()
    os.truncate(tmp_path / "big", HUGE)  # of nothing, which takes no room
    for size, found in ((5, f"found {HUGE} bytes"), (HUGE, "at most 4,294,967,296")):
        (tmp_path / "manifest.json").write_bytes(manifest_of(size))
        with pytest.raises(InputError, match=found):
            Bundle.open(tmp_path)
    os.truncate(tmp_path / "manifest.json", HUGE)
    with pytest.raises(InputError, match=r"manifest\.json was changed"):
        Bundle.open(tmp_path)


@pytest.mark.parametrize("name", ["/etc/hostname", "../outside", "a/../../outside", "./a", ""])
def test_a_manifest_cannot_name_a_file_outside_the_bundle(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside").write_bytes(b"12345")
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "manifest.json").write_bytes(manifest_of(5, name))
    with pytest.raises(InputError, match=r"manifest\.json was changed"):
        Bundle.open(folder)


def test_a_folder_or_a_pipe_in_a_files_place_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(manifest_of(5))
    (tmp_path / "big").mkdir()
    with pytest.raises(InputError, match="big is missing: expected 5 bytes .*, found a folder"):
        Bundle.open(tmp_path)
    (tmp_path / "big").rmdir()
    os.mkfifo(tmp_path / "big")
    with pytest.raises(InputError, match="big is missing: expected 5 bytes .*, found no file"):
        Bundle.open(tmp_path)


def test_what_is_no_bundle_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="which is no folder"):
        Bundle.open(tmp_path / "absent")
    with pytest.raises(InputError, match=r"which has no manifest\.json"):
        Bundle.open(tmp_path)


def test_a_folder_that_may_not_be_entered_is_one_line(closed: Path) -> None:
    for path in (closed, closed / "inside"):
        with pytest.raises(InputError, match="cannot read .*: Permission denied; export"):
            Bundle.open(path)


def test_a_file_that_is_absent_or_no_json_is_named(tmp_path: Path) -> None:
    bundle = Bundle.write(tmp_path / "b", {**FILES, "config.json": b"[1]"})
    with pytest.raises(InputError, match=r"need the file model\.onnx"):
        bundle.read("model.onnx")
    with pytest.raises(InputError, match=r"config\.json: need a JSON object"):
        _ = bundle.config


def test_only_a_bundle_of_the_same_study_is_replaced(bundle: Bundle, tmp_path: Path) -> None:
    newer = {**FILES, "model.safetensors": b"newer"}
    Bundle.write(bundle.path, newer)
    assert Bundle.open(bundle.path).files == newer
    for name, whose in (("two", "study one"), ("one", "another study called one")):
        other = to_json({"study": name, "study_uid": "2"})
        with pytest.raises(InputError, match=f"holds a bundle of {whose}; move it away, or name"):
            Bundle.write(bundle.path, {**FILES, "provenance.json": other})
    (bundle.path / "model.safetensors").write_bytes(b"damaged")
    Bundle.write(bundle.path, FILES)  # the remedy that damage is answered with
    assert Bundle.open(bundle.path).files == FILES

    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years")
    for path in (precious, precious / "thesis.txt"):
        with pytest.raises(InputError, match="which is something else"):
            Bundle.write(path, FILES)
    assert (precious / "thesis.txt").read_text() == "years"
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "precious"}


def test_another_model_that_was_written_meanwhile_is_not_replaced(bundle: Bundle) -> None:
    measured = {**FILES, "metrics.json": b"{}"}
    Bundle.write(bundle.path, measured, over=bundle)
    Bundle.write(bundle.path, {**FILES, "metrics.json": b"{ }"}, over=bundle)  # the same model
    other = Bundle.write(bundle.path, {**FILES, "model.safetensors": b"newer"})
    with pytest.raises(InputError, match=r"bundle .* was replaced by another command while"):
        Bundle.write(bundle.path, measured, over=bundle)
    assert Bundle.open(bundle.path).files == other.files


def test_a_folder_that_became_another_studys_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two exports into one new folder: the other one is whole before this one has the lock."""
    path = tmp_path / "bundle"
    theirs = {**FILES, "provenance.json": to_json({"study": "two", "study_uid": "2"})}
    alone = atomic.alone

    def late(folder: Path) -> AbstractContextManager[bool]:
        monkeypatch.setattr(atomic, "alone", alone)
        Bundle.write(path, theirs)
        return alone(folder)

    monkeypatch.setattr(atomic, "alone", late)
    with pytest.raises(InputError, match="holds a bundle of study two"):
        Bundle.write(path, FILES)
    assert Bundle.open(path).files == theirs


def test_replacing_is_right_where_folders_cannot_change_places(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # an NFS mount is what this stands for; none is at hand
    monkeypatch.setattr("fmnist_hpo.atomic._exchange", lambda _first, _second: False)
    write_folder(bundle.path, {"a": b"1"})
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert [path.name for path in bundle.path.iterdir()] == ["a"]
    with pytest.raises(OSError, match="No such file"):  # the new folder vanished: the old returns
        _put_in_place(tmp_path / "vanished", bundle.path)
    assert (bundle.path / "a").read_bytes() == b"1"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    mount = tmp_path / "small"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", mount], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("mounting a small file system needs root")
    yield mount
    subprocess.run(["umount", mount], check=True)


def test_a_full_disk_leaves_nothing(small_disk: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write the bundle .*No space left.*make room"):
        Bundle.write(small_disk / "bundle", {**FILES, "model.onnx": bytes(100_000)})
    assert list(small_disk.iterdir()) == []


def test_a_full_disk_leaves_the_old_bundle(small_disk: Path) -> None:
    Bundle.write(small_disk / "bundle", FILES)
    with pytest.raises(InputError, match="No space left"):
        Bundle.write(small_disk / "bundle", {**FILES, "model.onnx": bytes(100_000)})
    assert [path.name for path in small_disk.iterdir()] == ["bundle"]
    assert Bundle.open(small_disk / "bundle").files == FILES


def test_a_file_size_limit_leaves_nothing(tmp_path: Path) -> None:
    """The same fault where nobody is root: the write of a large file fails half-way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    try:
        with pytest.raises(InputError, match=r"cannot write the bundle .*File too large"):
            Bundle.write(tmp_path / "bundle", {**FILES, "model.onnx": bytes(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_readers_never_see_half_a_replacement(bundle: Bundle) -> None:
    """A thread replaces the bundle without pause; each read is one version, whole."""
    versions = [{**FILES, "model.safetensors": bytes([version]) * 4096} for version in range(2)]
    Bundle.write(bundle.path, versions[0])
    stop = threading.Event()

    def replace() -> None:
        while not stop.is_set():
            for version in versions:
                Bundle.write(bundle.path, version)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        seen = [Bundle.open(bundle.path).files for _ in range(200)]
        while not all(version in seen for version in versions):  # the writer had no turn yet
            seen.append(Bundle.open(bundle.path).files)
    finally:
        stop.set()
        thread.join()
    assert all(files in versions for files in seen)


@pytest.mark.slow
def test_a_killed_writer_leaves_the_old_bundle(bundle: Bundle) -> None:
    """Twenty writers, each killed at another moment of replacing the bundle."""
    program = textwrap.dedent("""
        import sys
        from pathlib import Path
        from fmnist_hpo.bundle import Bundle
        path, version = Path(sys.argv[1]), 0
        files = dict(Bundle.open(path).files)
        print("ready", flush=True)
        while True:
            version += 1
            Bundle.write(path, {**files, "model.safetensors": str(version).encode() * 10_000})
    """)
    for round_ in range(20):
        writer = subprocess.Popen(
            [sys.executable, "-c", program, bundle.path], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        with writer, writer.stdout:
            assert writer.stdout.readline() == "ready\n"
            threading.Event().wait(0.003 * round_)
            writer.send_signal(signal.SIGKILL)
        Bundle.open(bundle.path)
    assert Bundle.open(bundle.path).files["model.safetensors"] != FILES["model.safetensors"]


def test_what_a_killed_writer_left_is_removed_by_the_next(bundle: Bundle) -> None:
    program = textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        from fmnist_hpo.bundle import Bundle
        os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
        path = Path(sys.argv[1])
        Bundle.write(path, dict(Bundle.open(path).files))
    """)
    done = subprocess.run([sys.executable, "-c", program, bundle.path], check=False)
    assert done.returncode == -signal.SIGKILL
    beside = bundle.path.parent
    assert len(list(beside.iterdir())) == 2
    (beside / ".bundle.mine").mkdir()
    Bundle.write(bundle.path, bundle.files)
    assert {path.name for path in beside.iterdir()} == {"bundle", ".bundle.mine"}


def test_writers_at_once_do_not_sweep_each_others_work(bundle: Bundle) -> None:
    with ThreadPoolExecutor(4) as writers:
        versions = [{**bundle.files, "model.safetensors": bytes([i]) * 9} for i in range(60)]
        written = list(writers.map(lambda files: Bundle.write(bundle.path, files), versions))
    assert Bundle.open(bundle.path).files in [one.files for one in written]
    assert [path.name for path in bundle.path.parent.iterdir()] == ["bundle"]
