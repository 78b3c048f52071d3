"""The exported folder of a model: written once, verified whenever it is read."""

from fmnist_hpo.bundle.bundle import Bundle, check_replaceable
from fmnist_hpo.bundle.fields import REMEDY, Fields, to_json
from fmnist_hpo.bundle.records import Config, ModelMetrics, Provenance

__all__ = [
    "REMEDY",
    "Bundle",
    "Config",
    "Fields",
    "ModelMetrics",
    "Provenance",
    "check_replaceable",
    "to_json",
]
