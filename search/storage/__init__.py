"""The database: Optuna's tables, the ledger's beside them, and checkpoints.

No other package names Optuna's private storage modules.
"""

from search.address import shown
from search.storage.database import (
    LOCK_WAIT_MS,
    SHORT_LOCK_WAIT_MS,
    Storage,
    is_missing_file,
    open_storage,
)
from search.storage.retry import READING_SECONDS, Retry

__all__ = [
    "LOCK_WAIT_MS",
    "READING_SECONDS",
    "SHORT_LOCK_WAIT_MS",
    "Retry",
    "Storage",
    "is_missing_file",
    "open_storage",
    "shown",
]
