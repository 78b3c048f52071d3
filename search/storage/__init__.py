"""The database: Optuna's tables, the ledger's beside them, and checkpoints.

No other package names Optuna's private storage modules.
"""

from search.storage.database import (
    SHORT_LOCK_WAIT_MS,
    Retry,
    Storage,
    is_missing_file,
    open_storage,
)

__all__ = ["SHORT_LOCK_WAIT_MS", "Retry", "Storage", "is_missing_file", "open_storage"]
