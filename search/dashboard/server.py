"""Serves the dashboard over HTTP."""

import gc
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast
from wsgiref.util import setup_testing_defaults

from optuna.storages import BaseStorage

from search.dashboard.artifacts import missing_is_not_found
from search.dashboard.auth import Door, is_loopback
from search.dashboard.constraints import FeasibleStorage, feasible_best
from search.dashboard.large_studies import few_curves, one_plot_at_a_time, remember
from search.dashboard.private import ArtifactStore
from search.dashboard.writes import LedgerWrites
from search.errors import SearchError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["application", "serve"]

_THREADS = 6  # a page asks for half a dozen things at once, and a plot may take seconds
_READ_BODY_BYTES = 64 * 1024  # a read-only dashboard receives nothing but log-in forms
_WRITE_BODY_BYTES = 64 * 1024**2  # an uploaded artifact, as base64


def application(
    storage: BaseStorage,
    *,
    password: str | None,
    allow_writes: bool,
    delete: Callable[[str], object] | None = None,
    artifact_store: ArtifactStore | None = None,
) -> "WSGIApplication":
    """optuna-dashboard behind the log-in, as a WSGI application for the root of a host.

    Args:
        storage: best with Optuna's cache (`optuna.storages.get_storage`): the page asks for all
            trials every few seconds.
        password: None for none; serve it on loopback only then.
        allow_writes: let a logged-in browser change notes, artifacts and studies.
        delete: deletes the study of a name that has a ledger, with all that belongs to it, or
            raises `SearchError`; None refuses.
        artifact_store: where trials' artifacts are; None hides them.

    Raises:
        SearchError: the password is too short.
    """
    dashboard = _dashboard(storage, delete, artifact_store)
    return Door(dashboard, password=password, allow_writes=allow_writes)


def _dashboard(
    storage: BaseStorage,
    delete: Callable[[str], object] | None,
    artifact_store: ArtifactStore | None,
) -> "WSGIApplication":
    from optuna_dashboard import wsgi

    app: Any = wsgi(cast(BaseStorage, FeasibleStorage(storage)), artifact_store=artifact_store)
    for plugin in (
        remember(storage),
        few_curves(storage),
        feasible_best(storage),
        one_plot_at_a_time,
        missing_is_not_found,
        LedgerWrites(storage, delete or _use_the_command),
    ):
        app.install(plugin)
    return cast("WSGIApplication", app)


def serve(
    storage: BaseStorage,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    password: str | None,
    allow_writes: bool,
    delete: Callable[[str], object] | None = None,
    artifact_store: ArtifactStore | None = None,
) -> None:
    """Serve the dashboard until Ctrl-C or SIGTERM; call it from the main thread.

    It speaks http. On a network, put a proxy with TLS in front that passes `Host` on and sets
    `X-Forwarded-Proto: https` (the cookie is then `Secure`). The limit on log-ins per address then
    holds for everybody together, as all come from the proxy's address.

    Args:
        port: 0 takes a free one; the line printed names it.

    Raises:
        SearchError: a reachable address without a password, a password too short, or an address
            or port that is not available.
    """
    import waitress

    if password is None and not is_loopback(host):
        raise SearchError(
            "the dashboard needs a password on any address but loopback, got host "
            f"{host!r} and none; give one with --password-file, or use 127.0.0.1"
        )
    if not 0 <= port <= 65535:
        raise SearchError(
            f"the dashboard's port must be from 0 to 65535, got {port}; choose another port"
        )
    dashboard = _dashboard(storage, delete, artifact_store)
    app = Door(dashboard, password=password, allow_writes=allow_writes)
    try:
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except (OSError, UnicodeError) as error:
        raise SearchError(
            f"the dashboard cannot listen on host {host!r}, port {port}: {error}; "
            "choose another host or port"
        ) from error
    server = waitress.create_server(
        app,
        sockets=[listener],
        threads=_THREADS,
        ident=None,
        max_request_body_size=_WRITE_BODY_BYTES if allow_writes else _READ_BODY_BYTES,
        # waitress would drop X-Forwarded-Proto; the door reads no other such header
        clear_untrusted_proxy_headers=False,
    )
    studies = storage.get_all_studies()
    if studies:  # the study most likely opened first; a cold read of 2,000 trials takes seconds
        _prepare(dashboard, storage.get_study_id_from_name(studies[-1].study_name))
    gc.freeze()  # or each answer would have all trials looked through for garbage
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)  # also where the shell that started us ignores it
    shown = f"[{host}]" if ":" in host else host
    mode = "changes allowed" if allow_writes else "read-only"
    print(
        f"Dashboard: http://{shown}:{listener.getsockname()[1]}/ ({mode}; Ctrl-C ends it)",
        flush=True,
    )
    try:
        server.run()  # returns on KeyboardInterrupt and SystemExit
    finally:
        server.close()


def _use_the_command(name: str) -> None:
    raise SearchError(f"study {name!r} has a ledger; `delete {name}` deletes both")


def _prepare(dashboard: "WSGIApplication", study: int) -> None:
    """Ask for a study's trials as its page will."""
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    environ |= {"PATH_INFO": f"/api/studies/{study}", "QUERY_STRING": "after=0"}
    for _ in dashboard(environ, lambda *_: lambda _: None):
        pass


def _end(signum: int, frame: Any) -> None:  # noqa: ARG001
    raise SystemExit(0)
