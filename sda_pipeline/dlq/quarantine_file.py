"""``<state>/quarantine.jsonl``: the records that kill, by broker coordinates. No decisions.

One JSON object a line, closed by ``"crc"`` like a DLQ entry. The supervisor is the one writer and
only appends; operators read it and skip what stands there.

How a quarantined record is accounted for (SPEC 4; ``audit`` checks it):

- It killed its *source*: no row of it was ever logged. The source withholds it whenever it consumes
  it, counts it ``read`` and ``quarantined`` in that record of its log, and puts the original bytes
  among the record's rejects, kind Quarantined. ``report`` is 0.
- It killed the *correlator*: its source had counted it ``read`` and ``rows``. The correlator skips
  the row whenever it applies the frame and counts it ``quarantined`` in its own positions, so the
  classes of ``rows`` still add up. The source fetches the original from the broker and logs it once
  as a reject in a record without rows; that is counted in ``reported`` alone, which is part of no
  sum, so neither ``read`` nor any class sees the record twice. ``report`` numbers such lines of one
  source 1, 2, 3...; a source has logged exactly those up to its ``reported``.

So per source ``read`` = sum of the classes, and in every log record the rejects are as many as
``rejected + quarantined + reported`` grew by.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import msgspec

from sda_pipeline.dlq.quarantine_count import NAME as COUNT_NAME
from sda_pipeline.dlq.quarantine_count import Count, read_count, write_count
from sda_pipeline.errors import InvalidConfiguration, SdaError, StateCorrupt, Unreachable

NAME = "quarantine.jsonl"
SCHEMA_VERSION = 1
_CRC_KEY = b',"crc":'


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One record that killed ``operator`` ``deaths`` times in a row."""

    schema_version: int = SCHEMA_VERSION
    at: str  # UTC, RFC 3339: for people
    operator: str
    deaths: int
    source: str
    generation: int
    partition: int
    offset: int
    report: int  # see above; 0 when the record never became a row

    @property
    def coordinates(self) -> tuple[int, int, int]:
        """Generation, partition and offset: the record's identity within its source's topic."""
        return self.generation, self.partition, self.offset


class _Version(msgspec.Struct):
    """What a line of any release says of itself."""

    schema_version: int


def read_quarantine(path: Path) -> list[Line]:
    """Every line in order; none when there is no file. A torn last line is left out.

    StateCorrupt when a whole line is damaged, InvalidConfiguration when another release wrote it.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Unreachable(f"read {path}", error.strerror or str(error)) from error
    whole = data[: data.rfind(b"\n") + 1]
    return [_decode(path, number, text) for number, text in enumerate(whole.splitlines(), 1)]


def _decode(path: Path, number: int, text: bytes) -> Line:
    body, found, crc = text.rpartition(_CRC_KEY)
    hint = "put the file back, or move it away: its records are then tried again"
    if not found or crc != b"%d}" % zlib.crc32(body):
        raise StateCorrupt(f"read {path}", f"line {number} does not match its CRC", hint)
    try:
        version = msgspec.json.decode(text, type=_Version).schema_version
        if version == SCHEMA_VERSION:
            return msgspec.json.decode(text, type=Line)
    except msgspec.MsgspecError as error:
        raise StateCorrupt(f"read {path}", f"line {number}: {error}", hint) from error
    raise InvalidConfiguration(
        f"read {path}",
        [f"line {number} has format version {version}, this release reads {SCHEMA_VERSION}"],
        "use the release that wrote it",
    )


def counted(path: Path) -> Count:
    """What a count of the lines in the file would say."""
    count, data = Count(), path.read_bytes() if path.exists() else b""
    for line in data[: data.rfind(b"\n") + 1].splitlines(keepends=True):
        count = count.plus(zlib.crc32(line))
    return count


def _encode(line: Line) -> bytes:
    body = msgspec.json.encode(line)[:-1]
    return b"%b%b%d}\n" % (body, _CRC_KEY, zlib.crc32(body))


class QuarantineFile:
    """The one writer. ``lines`` are durable; ``torn_bytes`` of a last line were cut on opening;
    ``why`` says what else is wrong with the file, "" when nothing is.
    """

    def __init__(self, path: Path) -> None:
        """Open what is there; raises as ``read_quarantine``."""
        self.path = path
        self.lines = read_quarantine(path)
        self.torn_bytes = self._cut_torn_line()
        self._count_path, self.why = path.with_name(COUNT_NAME), ""
        try:
            self._count = self._settled()
        except OSError as error:
            raise Unreachable(f"open {path}", error.strerror or str(error)) from error

    def _settled(self) -> Count:
        """The count, made anew when there is none or a line was not written after it.

        A file with other lines than were counted stays in contradiction, for the audit to tell.
        """
        found, known = counted(self.path), None
        try:
            known = read_count(self._count_path)
        except StateCorrupt as error:
            self.why = f"{error.action}: {error.why}"
        if known is not None and self.path.exists():
            self.why = known.fault(found.lines, found.total)
            if self.why:
                return known
        if known != found and self.path.parent.exists():
            write_count(self._count_path, found)
        return found

    def _cut_torn_line(self) -> int:
        if not self.path.exists():
            return 0
        data = self.path.read_bytes()
        torn = len(data) - (data.rfind(b"\n") + 1)
        if torn:
            os.truncate(self.path, len(data) - torn)
        _sync(self.path)
        return torn

    def append(self, line: Line) -> None:
        """Add a line, durable on return. SdaError when it cannot be: nothing may rest on it."""
        data = _encode(line)
        try:
            count = self._count.plus(zlib.crc32(data))
            write_count(self._count_path, count)
            self._count = count
            fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if os.write(fd, data) != len(data):
                    raise OSError("the line was written in part")
                os.fsync(fd)
            finally:
                os.close(fd)
            _sync(self.path.parent)
        except OSError as error:
            why = error.strerror or str(error)
            raise SdaError(f"quarantine a record in {self.path}", why, "see the disk") from error
        self.lines.append(line)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
