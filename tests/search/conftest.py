"""Studies of the toy problems."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from toy import toy_spec

import search
from search.study import Study

MakeStudy = Callable[..., Study]


@pytest.fixture
def make_study(tmp_path: Path, sqlite_url: str) -> Iterator[MakeStudy]:
    """Creates a study in a fresh SQLite file, from the arguments of `toy_spec`."""
    opened: list[Study] = []

    def make(*args: object, storage: str = sqlite_url, **options: object) -> Study:
        study = search.create(
            toy_spec(*args, **options),  # type: ignore[arg-type]
            storage=storage,
            checkpoints=str(tmp_path / "checkpoints"),
        )
        opened.append(study)
        return study

    yield make
    for study in opened:
        study.storage.close()
