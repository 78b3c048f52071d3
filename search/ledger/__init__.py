"""The ledger: one row per lineage of the budget, and who works on it."""

from search.ledger.ledger import Ledger
from search.ledger.records import (
    Attempt,
    Choice,
    Claim,
    Counts,
    Fenced,
    Lease,
    Limits,
    Row,
    RuleEnd,
    Standing,
    Timing,
)

__all__ = [
    "Attempt",
    "Choice",
    "Claim",
    "Counts",
    "Fenced",
    "Lease",
    "Ledger",
    "Limits",
    "Row",
    "RuleEnd",
    "Standing",
    "Timing",
]
