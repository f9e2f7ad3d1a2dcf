"""What somebody else wrote, so that it cannot steer a terminal. Pure."""

from __future__ import annotations


def plain(text: str, keep: str = "") -> str:
    """Text of somebody else for a terminal: what would steer it is escaped, but for ``keep``."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
