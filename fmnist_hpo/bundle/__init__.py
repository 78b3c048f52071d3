"""The exported folder of a model: written once, verified whenever it is read."""

from fmnist_hpo.bundle.bundle import (
    REMEDY,
    Bundle,
    check_replaceable,
    has_probabilities,
    to_json,
)

__all__ = ["REMEDY", "Bundle", "check_replaceable", "has_probabilities", "to_json"]
