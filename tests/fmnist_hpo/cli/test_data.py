"""`data fetch` fills the folder that the user names."""

from pathlib import Path

import pytest

from fmnist_hpo import cli
from fmnist_hpo.cli.commands import data


@pytest.mark.parametrize("made", [True, False])
def test_an_empty_folder_is_filled(
    made: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, asked = tmp_path / "data", []
    if made:
        folder.mkdir()
    monkeypatch.setenv("FMNIST_HPO_DATA", "")  # restored afterwards

    def no_network(target: Path) -> Path:
        asked.append(target)
        raise data.InputError("there is no network")

    monkeypatch.setattr(data, "download", no_network)
    assert cli.main(["data", "fetch", "--data-dir", str(folder)]) == 2
    assert asked == [folder]


def test_a_folder_of_other_files_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    monkeypatch.setenv("FMNIST_HPO_DATA", "")
    assert cli.main(["data", "fetch", "--data-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_empty_folder_name_is_not_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["data", "verify", "--data-dir", ""])
    assert left.value.code == 2
    assert "argument --data-dir: must be a place, got ''" in capsys.readouterr().err
