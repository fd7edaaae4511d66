"""A real HTTP server that receives a webhook's requests."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATIENCE_S = 120
TAKEN = 204


@dataclass
class Receiver:
    """Responds with the next of `answers`, or else with `answer_to`, and keeps all requests."""

    answers: list[int] = field(default_factory=list)
    answer_to: Callable[[dict[str, Any]], int] = lambda _: TAKEN
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    closing: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def receive(self, headers: dict[str, str], body: bytes) -> int:
        document = json.loads(body)
        with self.changed:
            self.headers.append({name.lower(): value for name, value in headers.items()})
            self.bodies.append(body)
            answer = self.answers.pop(0) if self.answers else self.answer_to(document)
            if answer == TAKEN:
                self.taken.append(document)
            self.changed.notify_all()
            return answer

    def wait_for(self, requests: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.bodies) >= requests, PATIENCE_S)

    def wait_until_taken(self, documents: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.taken) >= documents, PATIENCE_S)

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.bodies]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver, which redirects to /elsewhere and does not answer on /slow."""
    kept = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            answer = kept.receive(dict(self.headers) | {"path": self.path}, body)
            if self.path == "/slow":
                kept.closing.wait(PATIENCE_S)
            self.send_response(answer)
            self.send_header("location", f"http://{self.headers['host']}/elsewhere")
            self.end_headers()

        do_GET = do_POST  # noqa: N815  a client that follows a 302 sends GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kept.url = f"http://127.0.0.1:{server.server_port}/hook"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield kept
        finally:
            kept.closing.set()
            server.shutdown()
            thread.join()
