"""What a study file says: its keys, its space, its strategies."""

from search.spec.study_file import (
    NamedTrial,
    Strategy,
    StudySpec,
    Workers,
    parse_spec,
    read_spec,
)

__all__ = ["NamedTrial", "Strategy", "StudySpec", "Workers", "parse_spec", "read_spec"]
