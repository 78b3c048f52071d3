"""A file is written whole or not at all, and nothing is left beside it."""

import os
from pathlib import Path

import pytest

from fmnist_hpo.atomic import write_whole


@pytest.mark.parametrize(("public", "mode"), [(True, 0o644), (False, 0o600)])
def test_a_file_is_replaced_at_the_end(tmp_path: Path, public: bool, mode: int) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"old")
    with write_whole(target, public=public) as file:
        file.write(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == mode
    assert list(tmp_path.iterdir()) == [target]


def test_what_fails_or_is_interrupted_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), write_whole(target, public=True) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_device_or_a_pipe_takes_what_is_written_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "a"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with write_whole(pipe, public=True) as file:
        file.write(b"new")
    assert os.read(reader, 10) == b"new"
    os.close(reader)
    assert pipe.is_fifo()
    with write_whole(Path("/dev/null"), public=True) as file:
        file.write(b"new")
    assert Path("/dev/null").is_char_device()
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_folder_in_the_way_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError), write_whole(tmp_path / "a", public=True) as file:
        file.write(b"new")
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]
