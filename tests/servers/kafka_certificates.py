"""A certificate authority and a broker's certificate for one test run, made by openssl.

Never kept, never in the repository. Not a way to make certificates for anything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.servers.cache import run, tool
from tests.servers.loopback_ports import HOST

_ACTION = "make certificates"
_HINT = "install openssl 1.1.1 or newer"
_WITHIN_S = 30.0
_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-sha256")


@dataclass(frozen=True)
class Certificates:
    """``authority`` is for clients; ``server`` (key and chain in one PEM file) for the broker;
    ``stranger`` is an authority that signed nothing.
    """

    authority: Path
    server: Path
    stranger: Path


def make_certificates(directory: Path) -> Certificates:
    """Make them for 127.0.0.1 and localhost, good for two days."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = Certificates(
        directory / "authority.pem", directory / "server.pem", directory / "stranger.pem"
    )
    key, request, signed = (directory / name for name in ("server.key", "server.csr", "server.crt"))
    names = directory / "names.cnf"
    names.write_text(f"subjectAltName=IP:{HOST},DNS:localhost\nbasicConstraints=CA:FALSE\n")
    for authority in (made.authority, made.stranger):
        _openssl(
            "req", "-x509", *_CURVE, "-days", "2", "-subj", f"/CN=sda test {authority.stem}",
            "-keyout", str(authority.with_suffix(".key")), "-out", str(authority),
        )  # fmt: skip
    _openssl(
        "req", "-new", *_CURVE, "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(request)
    )
    _openssl(
        "x509", "-req", "-sha256", "-days", "2", "-in", str(request), "-extfile", str(names),
        "-CA", str(made.authority), "-CAkey", str(made.authority.with_suffix(".key")),
        "-CAcreateserial", "-out", str(signed),
    )  # fmt: skip
    made.server.touch(mode=0o600)
    made.server.write_text(key.read_text() + signed.read_text() + made.authority.read_text())
    return made


def _openssl(*arguments: str) -> None:
    openssl = tool(_ACTION, "openssl", _HINT)
    run(_ACTION, [openssl, *arguments], _WITHIN_S, _HINT)
