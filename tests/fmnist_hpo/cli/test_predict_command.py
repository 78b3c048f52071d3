"""`predict` as typed: exit codes, folders, JSON, and names that hold escape codes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fmnist_hpo import cli
from fmnist_hpo.bundle import Bundle
from fmnist_hpo.data.decode import KINDS


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of two pictures, one of them with an escape code in its name."""
    folder = tmp_path / "shop"
    folder.mkdir()
    for name in ("a.png", "b\x1b[31m.png"):
        Image.fromarray(np.full((28, 28), 255, np.uint8)).save(folder / name)
    return folder


def test_one_bad_file_does_not_end_the_call(
    exported: Bundle, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = str(exported.path)
    assert cli.main(["predict", bundle, str(pictures), "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(line.isprintable() and line.count(" %") == 2 for line in lines)
    assert r"b\x1b[31m.png: " in lines[1]
    assert "[inverted, as its background is light]" in lines[0]

    (pictures / "c.png").write_bytes(b"no image")
    assert cli.main(["predict", bundle, str(pictures), "absent.png"]) == 1
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 2
    assert [line.partition(":")[0] for line in shown.err.splitlines()] == [
        f"need an image ({KINDS}), got {pictures / 'c.png'}",
        "cannot read absent.png",
    ]
    for bad in (["absent.png"], ["absent.png", str(pictures / "c.png")]):
        assert cli.main(["predict", bundle, *bad]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "cannot read absent.png" in line
    with pytest.raises(SystemExit, match="2"):
        cli.main(["predict", bundle, str(pictures), "--top", "0"])


def test_json(exported: Bundle, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predict", str(exported.path), str(pictures), "--json", "--top", "3"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["refused"] == []
    first = found["predictions"][0]
    assert first["image"] == str(pictures / "a.png")
    assert first["class"] == first["top"][0]["class"]
    assert len(first["top"]) == 3
    assert 0 < first["top"][0]["probability"] <= 1
    assert first["preprocessing"] == ["inverted, as its background is light"]


def test_more_classes_than_there_are(
    exported: Bundle, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = str(pictures / "a.png")
    assert cli.main(["predict", str(exported.path), picture, "--top", "1000"]) == 0
    assert capsys.readouterr().out.count(" %") == 10


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["BUNDLE", "a.png", "--top", "9" * 30], "must be a whole number >= 1 and <= "),
        (["BUNDLE", "a.png", "--top", "0"], "must be a whole number >= 1, got '0'"),
        (["BUNDLE", ""], "must be a path, got ''"),
        (["", "a.png"], "must be a path, got ''"),
        (["BUNDLE", "a" * 300], "File name too long"),
        (["a" * 300, "a.png"], "File name too long"),
    ],
)
def test_what_cannot_be_classified_is_one_line(
    exported: Bundle, argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(exported.path) if one == "BUNDLE" else one for one in argv]
    try:
        code: Any = cli.main(["predict", *given])
    except SystemExit as left:  # the parser's own
        code = left.code
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.parametrize(
    "argv",
    [
        ["data", "verify", "--data-dir", "~nosuchuser/x"],
        ["data", "fetch", "--data-dir", "~nosuchuser/x"],
        ["plan", "quick", "--data-dir", "~nosuchuser/x"],
    ],
)
def test_a_home_directory_that_nobody_has_is_one_line(
    argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FMNIST_HPO_DATA", "")  # restored afterwards
    assert cli.main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "~nosuchuser/x names no home directory" in line
