"""A double of an S3 store that is always overloaded: the one answer the real server cannot be made
to give.
"""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Overloaded(http.server.BaseHTTPRequestHandler):
    """Answers 503 "slow down" to everything."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = b"<Error><Code>SlowDown</Code><Message>later</Message></Error>"
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def overloaded_store() -> Iterator[str]:
    """Its endpoint."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Overloaded)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
