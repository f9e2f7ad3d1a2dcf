"""A double of an S3 store that refuses everything with one answer: for those that the real server
cannot be made to give.
"""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Refusing(http.server.BaseHTTPRequestHandler):
    """Gives the same answer to everything."""

    protocol_version = "HTTP/1.1"
    status, code = 0, ""

    def answer(self) -> None:
        body = f"<Error><Code>{self.code}</Code><Message>later</Message></Error>".encode()
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def overloaded_store(status: int = 503, code: str = "SlowDown") -> Iterator[str]:
    """Its endpoint."""
    handler = type("_Handler", (_Refusing,), {"status": status, "code": code})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
