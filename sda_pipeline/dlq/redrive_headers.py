"""The two headers of a re-injected message: whose record it is and how often it was tried (SPEC 7).

``dlq-id`` is the root, the ``dlq_id`` of the record's first rejection; ``dlq-attempts`` counts its
re-injections, this one included. Anyone may write headers, so they are read with suspicion: what
``sda-reprocess`` would not have written says nothing. Pure.
"""

from __future__ import annotations

import re

from sda_pipeline.broker.port import Headers

ROOT, ATTEMPTS = "dlq-id", "dlq-attempts"
_IS_ROOT = re.compile(rb"[0-9a-f]{32}")
_IS_COUNT = re.compile(rb"[0-9]{1,6}")  # nobody re-injects a record a million times


def write_headers(root: str, attempts: int) -> Headers:
    """The headers of the ``attempts``-th re-injection of a record."""
    return (ROOT, root.encode("ascii")), (ATTEMPTS, b"%d" % attempts)


def size_beside(headers: Headers) -> int:
    """Bytes of all headers but these two: a record may be re-injected that only just fitted."""
    return sum(
        len(name.encode()) + len(value)
        for name, value in headers
        if not (name == ROOT and _IS_ROOT.fullmatch(value))
        and not (name == ATTEMPTS and _IS_COUNT.fullmatch(value))
    )


def read_headers(headers: Headers) -> tuple[str, int]:
    """Root and attempts; ("", 0) of a message that was not re-injected."""
    if not headers:
        return "", 0
    found = dict(headers)
    root, attempts = found.get(ROOT, b""), found.get(ATTEMPTS, b"")
    if not _IS_ROOT.fullmatch(root):
        return "", 0
    return root.decode("ascii"), int(attempts) if _IS_COUNT.fullmatch(attempts) else 0
