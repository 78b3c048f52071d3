"""The WSGI middleware in front of optuna-dashboard: who may read, who may write, under which rules.

optuna-dashboard 0.21 has no log-in, lets everybody write, and serves artifacts unchanged. This
module refuses whatever it does not allow by name. Only the log-in page is open without a session.
Only GET and HEAD count as reads. Every answer is sandboxed unless it is a page of the dashboard.
"""

import hashlib
import hmac
import ipaddress
import json
import logging
import math
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request, Response

from search.dashboard import page_head
from search.dashboard.headers import EVERYWHERE, SANDBOX_POLICY, is_page, restrict
from search.dashboard.login_page import LOGIN_POLICY, login_page
from search.dashboard.page_head import CSRF_HEADER
from search.dashboard.sessions import SESSION_S, Attempts, Sessions
from search.errors import SearchError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["CSRF_HEADER", "Door", "is_loopback"]

_PASSWORD_LENGTH = 8  # characters; with 30 guesses a minute, more than a lifetime
_LOGIN_BYTES = 4096  # the most that a log-in form may hold
_FORM = "application/x-www-form-urlencoded"
_ANONYMOUS = "anonymous"  # stands for the session where no password is set

log = logging.getLogger(__name__)


class Door:
    """WSGI application that lets requests through to another.

    Args:
        app: optuna-dashboard's WSGI application.
        password: None admits every request whose Host is a loopback name. A foreign page that
            rebinds its own name to 127.0.0.1 is refused (DNS rebinding).
        allow_writes: False refuses every method but GET and HEAD.

    Raises:
        SearchError: the password is too short.
    """

    def __init__(
        self,
        app: "WSGIApplication",
        *,
        password: str | None,
        allow_writes: bool,
        sessions: Sessions | None = None,
        attempts: Attempts | None = None,
    ) -> None:
        if password is not None and len(password) < _PASSWORD_LENGTH:
            raise SearchError(
                f"the dashboard's password needs at least {_PASSWORD_LENGTH} characters, "
                f"got {len(password)}; choose a longer one"
            )
        self._app = app
        self._password = None if password is None else _digest(password)
        self._allow_writes = allow_writes
        self._sessions = sessions or Sessions()
        self._attempts = attempts or Attempts()

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        request = Request(environ)
        response = self._answer(request)
        for name, value in EVERYWHERE.items():
            response.headers.setdefault(name, value)
        if request.method == "HEAD":
            response.close()
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        path = request.environ.get("PATH_INFO", "")  # Request.path would take //login for /login
        session = _ANONYMOUS
        if self._password is None:
            if not is_loopback(urlsplit(f"//{request.host}").hostname or ""):
                return _refusal(
                    403,
                    "without a password the dashboard answers to localhost only, got the host "
                    f"{request.headers.get('Host', '')[:100]!r}; set a password",
                )
        else:
            if path == "/login":
                return self._log_in(request)
            session = request.cookies.get(_cookie_name(request), "")
            if not self._sessions.is_open(session):
                return _unauthenticated(request, path)
            if path == "/logout" and request.method == "POST":
                return self._log_out(request, session)
        if request.method not in ("GET", "HEAD"):
            refused = self._refuse_write(request, path, session)
            if refused is not None:
                return refused
        if path == page_head.SCRIPT:
            return _own(page_head.script(), mimetype="text/javascript")
        return self._pass_on(request, path, session)

    def _log_in(self, request: Request) -> Response:
        if request.method != "POST":
            return _page(200, login_page("/dashboard"))
        if not _same_origin(request):
            return _refusal(403, "log in on the dashboard's own page")
        request.environ["CONTENT_TYPE"] = _FORM  # no other form is read
        request.max_content_length = _LOGIN_BYTES
        try:
            form = request.form
        except HTTPException:  # too long
            return _refusal(400, "not a log-in form")
        if not request.content_length:
            return _refusal(400, "not a log-in form")
        destination = _destination(form.get("next", ""))
        address = request.remote_addr or ""
        wait_s = math.ceil(self._attempts.take(address))
        if wait_s > 0:
            problem = f"Too many attempts. Try again in {wait_s} seconds."
            response = _page(429, login_page(destination, problem))
            response.headers["Retry-After"] = str(wait_s)
            return response
        assert self._password is not None
        if not hmac.compare_digest(_digest(form.get("password", "")), self._password):
            log.warning("a wrong password from %s", address)
            return _page(401, login_page(destination, "That password is wrong."))
        self._attempts.forgive(address)
        response = _redirect(destination)
        response.set_cookie(
            _cookie_name(request),
            self._sessions.open(),
            max_age=int(SESSION_S),
            httponly=True,
            samesite="Strict",
            # The client or its proxy sets the header. A wrong value only keeps the sender's own
            # browser from sending the cookie over http, so no list of trusted proxies is needed.
            secure=request.headers.get("X-Forwarded-Proto", "").lower() == "https",
        )
        return response

    def _log_out(self, request: Request, session: str) -> Response:
        if not _same_origin(request):
            return _refusal(403, "log out on the dashboard's own page")
        self._sessions.close(session)
        response = _redirect("/login")
        response.delete_cookie(_cookie_name(request), httponly=True, samesite="Strict")
        return response

    def _refuse_write(self, request: Request, path: str, session: str) -> Response | None:
        if not self._allow_writes:
            return _refusal(
                403, "the dashboard is read-only; start it with --allow-writes to change studies"
            )
        if not _same_origin(request):
            return _refusal(403, "a write must come from the dashboard's own page")
        given = request.headers.get(CSRF_HEADER, "")
        if not self._sessions.is_csrf_token(session, given):
            return _refusal(403, f"the header {CSRF_HEADER} is missing or wrong; reload the page")
        if path.rstrip("/").endswith("/rename"):
            return _refusal(
                403,
                "optuna-dashboard renames by copying trials under new ids, which would cut them "
                "off from their budget and checkpoints; start a study of the new name instead",
            )
        return None

    def _pass_on(self, request: Request, path: str, session: str) -> Response:
        environ = request.environ
        # optuna-dashboard 0.21 fails on /static/* and the icon when the header is absent
        environ.setdefault("HTTP_ACCEPT_ENCODING", "")
        if is_page(path):  # its answer is changed below, so a stored copy must not be confirmed
            for name in ("HTTP_IF_MODIFIED_SINCE", "HTTP_IF_NONE_MATCH", "HTTP_RANGE"):
                environ.pop(name, None)
        response = _Passed.from_app(self._app, environ)
        restrict(response.headers, path)
        if is_page(path) and request.method == "GET":
            head = page_head.html(
                path,
                csrf_token=self._sessions.csrf_token(session) if self._allow_writes else None,
                log_out=self._password is not None,
            )
            page = response.get_data().replace(b"<head>", f"<head>{head}".encode(), 1)
            response.set_data(page)
            del response.headers["ETag"]
        return response


class _Passed(Response):
    default_mimetype = None  # optuna-dashboard's answers keep the type that it gave them


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine only; other names are not looked up."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _own(body: str, status: int = 200, *, mimetype: str, policy: str = SANDBOX_POLICY) -> Response:
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store"}
    return Response(body, status, headers, mimetype=mimetype)


def _page(status: int, body: str) -> Response:
    return _own(body, status, mimetype="text/html", policy=LOGIN_POLICY)


def _redirect(path: str) -> Response:
    response = _own("", 303, mimetype="text/plain")
    response.headers["Location"] = path
    return response


def _refusal(status: int, reason: str) -> Response:
    """A refusal in the form that the dashboard's own script shows: {"reason": ...}."""
    return _own(json.dumps({"reason": reason}), status, mimetype="application/json")


def _unauthenticated(request: Request, path: str) -> Response:
    if request.method == "GET" and "text/html" in request.headers.get("Accept", ""):
        query = request.environ.get("QUERY_STRING", "")
        return _page(401, login_page(_destination(path + (f"?{query}" if query else ""))))
    return _refusal(401, "log in first: open the dashboard's page and log in")


def _destination(wanted: str) -> str:
    """A page of the dashboard; the first page for anything else, such as another site."""
    known = re.fullmatch(r"/dashboard(?:[/?][\w\-./?=&%,+~:]*)?", wanted, flags=re.ASCII)
    return wanted if known else "/dashboard"


def _cookie_name(request: Request) -> str:
    # browsers keep one jar for all ports of a host, so two dashboards need two names
    return f"session_{request.environ['SERVER_PORT']}"


def _same_origin(request: Request) -> bool:
    """Whether a page of the same origin made the request, by the browser's headers."""
    site = request.headers.get("Sec-Fetch-Site")  # sent over https and on loopback
    if site is not None:
        return site == "same-origin"
    try:
        netloc = urlsplit(request.origin or request.referrer or "").netloc
    except ValueError:
        return False
    return netloc == request.host != ""


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()
