"""`predict` as typed: exit codes, folders, JSON, and names that hold escape codes."""

import json
from pathlib import Path

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
