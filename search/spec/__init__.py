"""What a study file says: its keys, its space, its strategies."""

from search.spec.parse import parse_spec, read_spec, read_workers
from search.spec.study_file import NamedTrial, Strategy, StudySpec, Workers

__all__ = [
    "NamedTrial",
    "Strategy",
    "StudySpec",
    "Workers",
    "parse_spec",
    "read_spec",
    "read_workers",
]
