"""A browser that speaks to the dashboard's door as a WSGI server does, and what it may ask for."""

import io
import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from optuna.artifacts import FileSystemArtifactStore
from optuna.storages import BaseStorage

from search.dashboard.auth import CSRF_HEADER

PASSWORD = "correct horse battery"
HOST = "localhost:8080"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def reason(self) -> str:
        return str(json.loads(self.body)["reason"])


@dataclass
class Browser:
    """What a browser does for the door: one cookie, and the origin of each request."""

    app: Any
    address: str = "127.0.0.1"
    cookie: str = ""
    environ: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: bytes = b"", **environ: str) -> Answer:
        path, _, query = path.partition("?")
        request: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "SCRIPT_NAME": "",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "8080",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": self.address,
            "HTTP_HOST": HOST,
            "HTTP_COOKIE": self.cookie,
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            **self.environ,
            **environ,
        }
        started: list[Any] = []
        chunks = self.app(request, lambda status, headers: started.extend([status, headers]))
        content = b"".join(chunks)
        getattr(chunks, "close", lambda: None)()
        status, headers = started
        names = [name.lower() for name, _ in headers]
        assert len(names) == len(set(names)), f"a header is sent twice: {headers}"
        return Answer(int(status.split()[0]), {n.lower(): v for n, v in headers}, content)

    def log_in(self, password: str = PASSWORD, next: str = "", **environ: str) -> Answer:
        form = urlencode({"password": password, "next": next}).encode()
        environ = {"HTTP_ORIGIN": f"http://{HOST}", **environ}
        answer = self.ask("POST", "/login", form, **environ)
        if "set-cookie" in answer.headers:
            self.cookie = "other=1; " + answer.headers["set-cookie"].partition(";")[0]
        return answer

    def token(self) -> str:
        page = self.ask("GET", "/dashboard").body.decode()
        found = re.search(r'<meta name="csrf-token" content="([^"]+)">', page)
        assert found is not None
        return found[1]

    def write(self, method: str, path: str, content: Any, token: str, **environ: str) -> Answer:
        sent = {
            "CONTENT_TYPE": "application/json",
            "HTTP_" + CSRF_HEADER.upper().replace("-", "_"): token,
            "HTTP_ORIGIN": f"http://{HOST}",
            **environ,
        }
        return self.ask(method, path, json.dumps(content).encode(), **sent)


def routes(storage: BaseStorage) -> set[str]:
    """A path for each route that optuna-dashboard registers."""
    import optuna_dashboard

    app: Any = optuna_dashboard.wsgi(storage, artifact_store=FileSystemArtifactStore("."))
    paths = {
        re.sub(r"<:re:.*>", "", re.sub(r"<(\w+)(:[^<>]*)?>", "1", route.rule))
        for route in app.routes
    }
    assert len(paths) > 20, paths
    return paths
