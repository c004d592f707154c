import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from search.cluster import authentication

VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS")

Answer = Callable[[str, str | None], tuple[int, bytes]]
"""Of a path and the header `authorization`, a status and a page."""


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of what says how clusters are met is set, and what a test leaves there is taken back."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def deaf_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray, where other tests have loaded it, hears nothing of the mode that is chosen."""
    monkeypatch.setattr(authentication, "use", lambda mode: os.environ.update(RAY_AUTH_MODE=mode))


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """Starts web servers on loopback; gives their addresses."""
    with ExitStack() as stack:

        def start(answer: Answer) -> str:
            class Page(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    status, page = answer(self.path, self.headers.get("authorization"))
                    self.send_response(status)
                    self.end_headers()
                    self.wfile.write(page)

                def log_message(self, *arguments: object) -> None:
                    pass

            server = stack.enter_context(HTTPServer(("127.0.0.1", 0), Page))
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}"

        yield start
