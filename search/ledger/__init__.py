"""The ledger: one row per lineage of the budget, and who works on it."""

from search.ledger.ledger import Ledger
from search.ledger.records import Claim, Counts, Fenced, Lease, Row, Timing

__all__ = ["Claim", "Counts", "Fenced", "Lease", "Ledger", "Row", "Timing"]
