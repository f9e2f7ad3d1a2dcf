"""Faults of the network between a client and a server: a real Toxiproxy, and words for its API.

Every fault also hits connections that are open already. Not faults of the server: see the servers.
"""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any, Literal

from sda_pipeline.errors import Unreachable
from tests.servers.loopback_ports import HOST, Port
from tests.servers.recipes import TOXIPROXY
from tests.servers.server_process import Served, ServerProcess

Stream = Literal["upstream", "downstream"]  # to the server, to the client
_WITHIN_S = 5.0


class FaultProxies(Served):
    """One Toxiproxy; ``add`` puts a proxy before an address."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._api, self._ports = Port(), list[Port]()
        argv = [str(TOXIPROXY.installed()), "-host", HOST, "-port", str(self._api.number)]
        self.process = ServerProcess("Toxiproxy", argv, directory / "toxiproxy.log")

    def start(self) -> None:
        """Start it, without any proxy."""
        self.process.start()
        self.process.await_ready(self._answers)

    def close(self) -> None:
        """Kill it, and with it every connection through it."""
        self.process.kill()
        for port in (self._api, *self._ports):
            port.release()

    def add(self, upstream: str) -> FaultProxy:
        """A proxy on a port of its own before ``host:port``, faultless at first."""
        port = Port()
        self._ports.append(port)
        proxy = FaultProxy(self, f"before-{upstream}-{port.number}", port)
        fields = {"name": proxy.name, "listen": port.address, "upstream": upstream, "enabled": True}
        self.ask("POST", "/proxies", fields)
        return proxy

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """One request to the API; Unreachable when it refuses."""
        connection = http.client.HTTPConnection(HOST, self._api.number, timeout=_WITHIN_S)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            text = reply.read()
        finally:
            connection.close()
        if reply.status >= http.client.BAD_REQUEST:
            why = f"{reply.status} {text.decode(errors='replace')}"
            raise Unreachable(f"ask Toxiproxy for {method} {path}", why, self.process.story())
        return json.loads(text) if text else None

    def _answers(self) -> bool:
        try:
            self.ask("GET", "/proxies")
        except (OSError, http.client.HTTPException, Unreachable):
            return False
        return True


class FaultProxy:
    """One proxied address. Faults add up; ``heal`` ends them all."""

    def __init__(self, proxies: FaultProxies, name: str, port: Port) -> None:
        self.name, self.port = name, port
        self._proxies, self._path = proxies, f"/proxies/{name}"

    @property
    def address(self) -> str:
        """``host:port`` for the client."""
        return self.port.address

    def delay(self, milliseconds: int, stream: Stream = "downstream") -> None:
        """Everything arrives so much later."""
        self._add("latency", stream, latency=milliseconds)

    def blackhole(self, stream: Stream = "downstream") -> None:
        """Nothing arrives and nothing is closed; ``heal`` closes the connections."""
        self._add("timeout", stream, timeout=0)

    def reset(self, after_ms: int = 0) -> None:
        """Connections end in a TCP reset, those to come as well."""
        self._add("reset_peer", "downstream", timeout=after_ms)

    def throttle(self, kilobytes_per_s: int, stream: Stream = "downstream") -> None:
        """No more than this rate."""
        self._add("bandwidth", stream, rate=kilobytes_per_s)

    def cut_after(self, size: int, stream: Stream = "downstream") -> None:
        """Close each connection after so many bytes."""
        self._add("limit_data", stream, bytes=size)

    def down(self) -> None:
        """Close every connection and refuse new ones."""
        self._proxies.ask("POST", self._path, {"enabled": False})

    def heal(self) -> None:
        """End every fault and accept connections again."""
        for toxic in self._proxies.ask("GET", f"{self._path}/toxics"):
            self._proxies.ask("DELETE", f"{self._path}/toxics/{toxic['name']}")
        self._proxies.ask("POST", self._path, {"enabled": True})

    def _add(self, kind: str, stream: Stream, **attributes: int) -> None:
        toxic = {"type": kind, "stream": stream, "attributes": attributes}
        self._proxies.ask("POST", f"{self._path}/toxics", toxic)
