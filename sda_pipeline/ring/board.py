"""The board: shared u64 words, each with a name and one writer. Not durable, not a queue.

A stateful operator writes a word only after the commit it reports, and writes it again from disk
before READY. Readers may see words of different moments, never half a word.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from zlib import crc32

from sda_pipeline.errors import SdaError
from sda_pipeline.ring import memory

UNKNOWN = 2**64 - 1

_PAGE_BYTES = 4096
_WORD_BYTES = 8

# Word suffixes by writer. `lag` starts UNKNOWN (nobody has asked the broker), every other word 0.
_SOURCE_OWN = (
    "log_end", "lag", "log_id", "log_first", "watermark", "ended", "reported", "missing",
    "horizon_lost",
)  # fmt: skip
_SUPERVISOR_OWN = ("quarantined",)  # rows of the source that it must report, so far
# Of a source: from where on the oldest retained snapshot needs its log, up to where the newest one
# covers it. The same of the remote ones: of which log that is said, the sequence of the one that
# covers it, and the watermark of that. Read in this order, written against it.
_SNAPSHOT_OWN = (
    "snapshot", "snapshot_new", "remote_log", "remote_by", "remote", "remote_new", "remote_time",
)  # fmt: skip
_REMOTE_OWN = (
    "remote_seq", "remote_epoch", "remote_rival", "remote_at", "breaker", "uploaded_at",
    "upload_failed_at", "upload_fault", "prune_failed_at",
)  # fmt: skip
_RECOVERIES = ("recovered_local", "recovered_snapshot", "recovered_remote", "recovered_fresh")
_PER_SOURCE = (
    "applied", "log_end", "lag", "dlq_done", "log_id", "log_first", "watermark", "ended",
    "reported", "missing", "horizon_lost", "dlq_log", *_SNAPSHOT_OWN, *_SUPERVISOR_OWN,
)  # fmt: skip
_GLOBAL = (
    "outbox_end", "sink_pos", "sub_pos", "dirty", "hold", "epoch", "snapshot_seq", "snapshot_at",
    *_REMOTE_OWN, *_RECOVERIES,
)  # fmt: skip
_PER_OPERATOR = (
    "heartbeat", "step", "step_since", "in_flight_source", "in_flight_position", "in_flight_row",
    "events", "ready",
)  # fmt: skip
_GLOBAL_OF_KIND = {
    "correlator": ("outbox_end", "dirty", "hold", "epoch", *_RECOVERIES),
    "alert-sink": ("sink_pos",),
    "subscriber": ("sub_pos",),
    "replicator": ("snapshot_seq", "snapshot_at", *_REMOTE_OWN),
}
_PER_SOURCE_OF_KIND = {
    "correlator": ("applied",),
    "dlq-sink": ("dlq_done", "dlq_log"),  # and the id of the log that it speaks of
    "replicator": _SNAPSHOT_OWN,
}


def board_words(sources: Sequence[str], operators: Sequence[str]) -> tuple[str, ...]:
    """The names of all words, in their order on the board. ``operators`` includes the sources."""
    return (
        *_GLOBAL,
        *(f"{source}.{word}" for source in sources for word in _PER_SOURCE),
        *(f"{operator}.{word}" for operator in operators for word in _PER_OPERATOR),
    )


def positions_of(name: str, kind: str, sources: Sequence[str]) -> tuple[str, ...]:
    """The words that say where operator ``name`` stands, of which it is the one writer.

    These go back to their initial values when the operator is rewound; its heartbeat words do not
    belong.
    """
    own = _SOURCE_OWN if name in sources else ()
    per_source = _PER_SOURCE_OF_KIND.get(kind, ())
    return (
        *_GLOBAL_OF_KIND.get(kind, ()),
        *(f"{name}.{word}" for word in own),
        *(f"{source}.{word}" for source in sources for word in per_source),
    )


def initial_value(name: str) -> int:
    """What a word holds before its first writer."""
    return UNKNOWN if name.endswith(".lag") else 0


class Board:
    """Named words on shared memory. Made by ``create`` (supervisor) or ``attach`` (operators)."""

    def __init__(self, fd: int, words: Sequence[str], *, owned: bool) -> None:
        self.fd = fd
        self._owned = owned
        self._mapping = memory.Mapping(fd)
        self._words = self._mapping.words
        # Word 0 is the signature of the names: sides with other names would talk past each other.
        self._index = {name: 1 + i for i, name in enumerate(words)}
        assert len(self._index) == len(words), "word names are unique"

    @classmethod
    def create(cls, words: Sequence[str]) -> Board:
        """A new board with every word at its initial value. SdaError when memory is short."""
        size = -(-(1 + len(words)) * _WORD_BYTES // _PAGE_BYTES) * _PAGE_BYTES
        board = cls(memory.create_memory("board", size), words, owned=True)
        board.reset(words)
        board._words[0] = _signature(words)
        return board

    @classmethod
    def attach(cls, fd: int, words: Sequence[str]) -> Board:
        """The board behind an inherited descriptor. SdaError when it was made for other words."""
        board = cls(fd, words, owned=False)
        if board._words[0] != _signature(words):
            board.close()
            raise SdaError(
                "attach to the board", "it was made for other words", "restart the whole pipeline"
            )
        return board

    def get(self, name: str) -> int:
        """The word's value, 0 .. 2**64 - 1. SdaError on an unknown name."""
        try:
            return self._words[self._index[name]]
        except KeyError:
            raise self._unknown("read", name) from None

    def set(self, name: str, value: int) -> None:
        """Write a word; only its one writer may. SdaError on an unknown name or no u64."""
        try:
            # Never struct.pack_into: see Mapping.
            self._words[self._index[name]] = value
        except KeyError:
            raise self._unknown("write", name) from None
        except ValueError as error:
            raise SdaError(f"write {value} to board word {name}", "it is no u64") from error

    def reset(self, names: Iterable[str]) -> None:
        """Put words back to their initial values: the supervisor, while their writers are dead."""
        for name in names:
            self.set(name, initial_value(name))

    def snapshot(self) -> dict[str, int]:
        """All words by name, each whole, not all of one instant."""
        return {name: self._words[i] for name, i in self._index.items()}

    def close(self) -> None:
        """Unmap; the descriptor is closed only where the board was created."""
        self._mapping.close()
        if self._owned:
            self._owned = False
            os.close(self.fd)

    def _unknown(self, action: str, name: str) -> SdaError:
        return SdaError(f"{action} board word {name!r}", "the board has no word of that name")


def _signature(words: Sequence[str]) -> int:
    """A nonzero word that differs for other names or another order."""
    return len(words) << 32 | crc32("\n".join(words).encode()) | 1 << 63
