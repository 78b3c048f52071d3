"""The table of a comparison in files."""

from pathlib import Path

import pytest

from fmnist_hpo.errors import InputError
from fmnist_hpo.results.comparison import Comparison, Row
from fmnist_hpo.results.comparison_table import write_csv

COMPARISON = Comparison(
    rows=(Row(study="é", model="cnn", validation_accuracy=0.9, search_seconds=1.0),),
    pairs=(),
    missing=(),
    threads=1,
)


def test_a_table_is_written_whole(tmp_path: Path) -> None:
    write_csv(COMPARISON, tmp_path / "table.csv")
    head, line = (tmp_path / "table.csv").read_text(encoding="utf-8").splitlines()
    assert head.startswith("study,model,validation_accuracy")
    assert line.startswith("é,cnn,0.9")


def test_a_folder_in_the_tables_place_is_one_line_and_nothing_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "table.csv"
    folder.mkdir()
    with pytest.raises(InputError, match="cannot write .*: Is a directory; .* name another file"):
        write_csv(COMPARISON, folder)
    assert list(tmp_path.iterdir()) == [folder]
