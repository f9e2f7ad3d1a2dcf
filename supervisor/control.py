"""The control socket ``<state>/control.sock``: fixed verbs, one JSON line each way. No decisions.

0600 in a 0700 directory, and the peer's credentials are checked as well: only the owner and root
speak to a pipeline. Nothing here waits: a silent client is dropped, the oldest when there are many.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from sda_pipeline.clock import Clock
from sda_pipeline.errors import ExitCode, InvalidConfiguration, NotRunning, SdaError, UsageError
from sda_pipeline.limits import SECOND_NS
from supervisor.relayed import Relayed

SOCKET = "control.sock"
REQUEST_BYTES_MAX = 4096
CLIENTS_MAX = 16
CLIENT_WITHIN_NS = 2 * SECOND_NS  # from connecting to a whole request
ANSWER_WITHIN_S = 5.0
ANSWER_BYTES_MAX = 1 << 20
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid

Handler = Callable[[dict[str, Any]], dict[str, Any]]


class _Client:
    def __init__(self, connection: socket.socket, since: int) -> None:
        self.connection, self.since = connection, since
        self.request = b""


class ControlServer:
    """Listens on the state's socket; runs inside the supervisor's selector."""

    def __init__(
        self, state: Path, selector: selectors.BaseSelector, clock: Clock, handler: Handler
    ) -> None:
        self._state, self._selector, self._clock, self._handler = state, selector, clock, handler
        self._clients: dict[int, _Client] = {}
        self.refused = 0  # peers of other users
        # The lock is ours, so a socket that is there belongs to a dead supervisor.
        (state / SOCKET).unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        before = os.umask(0o177)
        try:
            with _short_path(state) as path:
                self._listener.bind(path)
        except OSError as error:
            self._listener.close()
            why = [f"{state / SOCKET}: {error.strerror}"]
            raise InvalidConfiguration("open the control socket", why) from error
        finally:
            os.umask(before)
        self._listener.listen(CLIENTS_MAX)
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def _accept(self) -> None:
        now = self._clock.monotonic_ns()
        for client in list(self._clients.values()):  # oldest first
            if now - client.since > CLIENT_WITHIN_NS or len(self._clients) >= CLIENTS_MAX:
                self._drop(client)
        with contextlib.suppress(BlockingIOError, ConnectionError):
            connection, _ = self._listener.accept()
            connection.settimeout(0)
            if peer_of(connection)[1] not in (os.geteuid(), 0):
                self.refused += 1
                connection.close()
            else:
                client = _Client(connection, now)
                self._clients[connection.fileno()] = client
                self._selector.register(
                    connection, selectors.EVENT_READ, lambda: self._receive(client)
                )

    def _receive(self, client: _Client) -> None:
        try:
            data = client.connection.recv(REQUEST_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        client.request += data
        if b"\n" in client.request:
            answer = msgspec.json.encode(self._answer(client.request.split(b"\n", 1)[0])) + b"\n"
            with contextlib.suppress(OSError):  # the client is gone, or will not read
                client.connection.send(answer)
            self._drop(client)
        elif not data or len(client.request) > REQUEST_BYTES_MAX:
            self._drop(client)

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = msgspec.json.decode(line, type=dict[str, Any])
            return {"ok": True, **self._handler(request)}
        except SdaError as error:
            return {"ok": False, "error": str(error), "code": int(error.exit_code)}
        except msgspec.MsgspecError as error:
            return {"ok": False, "error": f"cannot read the request: {error}", "code": 2}

    def _drop(self, client: _Client) -> None:
        if self._clients.pop(client.connection.fileno(), None) is not None:
            self._selector.unregister(client.connection)
            client.connection.close()

    def close(self) -> None:
        """Remove the socket and drop every client."""
        for client in list(self._clients.values()):
            self._drop(client)
        self._selector.unregister(self._listener)
        (self._state / SOCKET).unlink(missing_ok=True)
        self._listener.close()


def ask(state: Path, verb: str, action: str, **arguments: Any) -> dict[str, Any]:
    """One request to the supervisor of ``state``. NotRunning when nobody answers.

    ``action`` is what the user wants, for messages. Raises Relayed with the supervisor's own words
    when it refuses.
    """
    hint = "start it with 'sda-supervisor start'"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_WITHIN_S)
        try:
            with _short_path(state) as path:
                connection.connect(path)
            pid = peer_of(connection)[0]
            connection.sendall(msgspec.json.encode({"verb": verb, **arguments}) + b"\n")
            data = b"".join(_received(connection))
            answer = msgspec.json.decode(data, type=dict[str, Any])
        except FileNotFoundError as error:
            raise NotRunning(action, f"no pipeline runs in {state}", hint) from error
        except (OSError, msgspec.MsgspecError) as error:
            why = f"no supervisor answers in {state} ({error})"
            raise NotRunning(action, why, hint) from error
    if not answer.pop("ok", False):
        raise Relayed(str(answer.get("error")), int(answer.get("code", ExitCode.INTERNAL)))
    return {"supervisor_pid": pid, **answer}


def answering_pid(state: Path) -> int | None:
    """The pid of the supervisor that answers in ``state``, None when none does."""
    try:
        return int(ask(state, "ping", "reach the pipeline")["supervisor_pid"])
    except SdaError:
        return None


def peer_of(connection: socket.socket) -> tuple[int, int]:
    """Pid and uid of the other end, as the kernel knows them."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(data)
    return pid, uid


def unknown_verb(verb: object) -> UsageError:
    """The answer to a verb that is not in the list."""
    return UsageError(f"do {verb!r}", "it is not a verb of the control socket")


def _received(connection: socket.socket) -> Iterator[bytes]:
    size = 0
    while data := connection.recv(1 << 16):
        size += len(data)
        if size > ANSWER_BYTES_MAX:
            raise OSError("the answer is too long")
        yield data


@contextlib.contextmanager
def _short_path(state: Path) -> Iterator[str]:
    """A path to the socket within the 107 bytes an address may have, however deep the state is."""
    directory = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{SOCKET}"
    finally:
        os.close(directory)
