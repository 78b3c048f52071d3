"""A place of checkpoints that a person names wrongly is refused before anything is made."""

from pathlib import Path

import pytest
from toy import toy_spec

from search.cli import app


@pytest.mark.parametrize("command", ["create", "run"])
@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("toy.toml", "but {folder}/toy.toml is a file; give another"),
        ("toy.toml/below", "but {folder}/toy.toml is a file; give another"),
        ("x" * 300, "but File name too long; give another"),
        ("gs://bucket/prefix", "got 'gs://bucket/prefix'; give one of these"),
        ("s3://key:secret@bucket", "holds no credentials and no options, got 's3://"),
    ],
)
def test_it_is_one_line_and_leaves_no_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    command: str, place: str, line: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("toy.toml").write_text(toy_spec())
    argv = [command, "toy.toml", "--storage", "sqlite:///a.db", "--checkpoints", place]
    with pytest.raises(SystemExit, match="2"):
        app.main(argv)
    shown = capsys.readouterr().err
    assert line.format(folder=tmp_path) in shown
    assert "secret" not in shown
    assert shown.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["toy.toml"]
