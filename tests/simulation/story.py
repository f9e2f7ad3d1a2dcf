"""The simulation's input: some dozens of messages, and what each reduces to. Not a schedule.

The reduction of measurements is tested elsewhere and too slow to repeat in every schedule, so each
message is a name and its row is made here. Levels rise and fall with the rows of each encounter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import numpy as np

from operators.core.reduction import ReducedBatch
from sda_pipeline.astro.encounter import Scheduled
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.records.rows import ROW
from sda_pipeline.records.wire import Discarded, Rejected
from sda_pipeline.settings import ISL, RADAR
from sda_pipeline.vocabulary import ErrorKind
from tests.simulation.dice import Dice
from tests.simulation.sim_catalogue import IDLE_OBJECT, T0_NS, sky

SOURCES = ("radar", "isl")
PARTITIONS = {"radar": 2, "isl": 1}
KINDS = {"radar": RADAR, "isl": ISL}
STORY_SEEDS = (1041, 1298, 1018)  # chosen so that levels rise and fall, rows come late and twice
STORIES = len(STORY_SEEDS)
BASE_ROW_SIGMA = (30.0, 30.0, 30.0, 0.05, 0.05, 0.05)


class Message(NamedTuple):
    """One message at the broker and what becomes of it: a row's bytes, a rejection or a discard."""

    value: bytes
    timestamp_ms: int
    row: bytes = b""
    rejected: str = ""
    discarded: str = ""


@dataclass
class Story:
    """What all schedules of one story consume. ``topics`` by source, then by partition."""

    topics: dict[str, list[list[Message]]]
    outcomes: dict[bytes, Message] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for partitions in self.topics.values():
            for message in (m for partition in partitions for m in partition):
                self.outcomes[message.value] = message

    def rejected(self) -> dict[tuple[str, int, int], bytes]:
        """What must stand in the DLQ, once each: (source, partition, offset) -> original bytes."""
        return {
            (source, number, offset): message.value
            for source, partitions in self.topics.items()
            for number, messages in enumerate(partitions)
            for offset, message in enumerate(messages)
            if message.rejected
        }


class TableReducer:
    """In the place of the reducer: from a message's bytes to the row made for it."""

    story: Story  # of the schedule that runs

    def __init__(self, kind: int, *_: object) -> None:
        self.kind = kind

    def reduce(self, values: list[bytes], timestamps_ms: np.ndarray) -> ReducedBatch:
        """As ``Reducer.reduce``."""
        rows: list[bytes] = []
        index: list[int] = []
        rejects: list[Rejected] = []
        discarded: list[Discarded] = []
        for at, value in enumerate(values):
            message = self.story.outcomes[value]
            if message.rejected:
                kind = ErrorKind.VALIDATION_FAILED
                rejects.append(Rejected(at, kind, message.rejected, "S-1"))
            elif message.discarded:
                discarded.append(Discarded(at, message.discarded))
            else:
                rows.append(message.row)
                index.append(at)
        table = np.frombuffer(b"".join(rows), ROW).copy()
        return ReducedBatch(table, np.array(index, np.int64), rejects, discarded)


@cache
def story(number: int) -> Story:
    """One of ``STORIES``, always the same for its number."""
    return _Writer(Dice(STORY_SEEDS[number])).write()


class _Writer:
    """Writes one story."""

    def __init__(self, dice: Dice) -> None:
        self.dice = dice
        self.rows: list[np.ndarray] = []
        self.number = 0

    def write(self) -> Story:
        for number, encounter in enumerate(sky().encounters):
            self._observe(encounter, scripted=number == 2)
        for _ in range(2):
            self._add(IDLE_OBJECT, T0_NS + self._ns(-10, 70), np.zeros(3), 1.0)
        streams: dict[tuple[str, int], list[tuple[int, Message]]] = {
            (s, p): [] for s in SOURCES for p in range(PARTITIONS[s])
        }
        places = [*streams]
        for row in sorted(self.rows, key=lambda row: int(row["t"])):
            for _ in range(1 + self.dice.chance(0.15)):  # now and then by two ways, or twice by one
                place = self.dice.pick(places)
                self._send(streams[place], KINDS[place[0]], row)
        topics: dict[str, list[list[Message]]] = {s: [] for s in SOURCES}
        for (source, _), stream in streams.items():
            topics[source].append(self._with_faults(stream))
        return Story(topics)

    def _observe(self, e: Scheduled, *, scripted: bool) -> None:
        """Rows of both objects. Those of the second measure it on the way to the other, a little
        aside, or kilometres off; a scripted encounter is raised, withdrawn and reinstated by them.
        """
        apart = e.r2 - e.r1
        away = apart / np.sqrt(np.sum(apart * apart))
        self._add(e.low, e.tca_ns - self._ns(26, 29), np.zeros(3), 1.0)
        self._add(e.low, e.tca_ns - self._ns(3, 9), np.zeros(3), 1.0)
        said = [(27, 0.0, 0.3), (22, 2500.0, 1.5), (3, 0.0, 20.0)]
        if not scripted:
            misses, weights = (0.0, 0.0, 60.0, 110.0, 160.0, 2500.0), (0.3, 1.0, 4.0)
            said = [(s, self.dice.pick(misses), self.dice.pick(weights)) for s, _, _ in said]
            said = [what for what in said if self.dice.chance(0.75)]
        for before_s, miss_m, weight in said:
            shift = away * miss_m - apart
            self._add(e.high, e.tca_ns - self._ns(before_s - 1, before_s + 1), shift, weight)

    def _ns(self, low_s: int, high_s: int) -> int:
        return self.dice.between(low_s * SECOND_NS, high_s * SECOND_NS)

    def _add(self, sat: int, t: int, deviation: np.ndarray, weight: float) -> None:
        """A row that measures the deviation (3,) in m at its time, velocity as in the catalogue."""
        row = np.zeros((), ROW)
        sigma = np.array(BASE_ROW_SIGMA) / np.sqrt(weight)
        information = np.diag(1.0 / (sigma * sigma))
        self.number += 1
        row["id"] = (self.number * 0x9E3779B97F4A7C15 % 2**64, self.number)
        row["t"], row["sat"] = t, sat
        row["info"] = information[np.tril_indices(6)]
        row["vec"] = information @ np.concatenate((deviation, np.zeros(3)))
        self.rows.append(row)

    def _send(self, stream: list[tuple[int, Message]], kind: int, row: np.ndarray) -> None:
        """One message for the row: almost in order of time, some of them much too late."""
        row = row.copy()
        row["kind"] = kind
        late = self.dice.chance(0.08)
        delay = self._ns(9, 25) if late else self._ns(0, 2)
        t = int(row["t"])
        value = b"row-%d-%d-%d" % (self.number, kind, len(stream))
        self.number += 1
        message = Message(value, (t + delay) // 1_000_000, row=row.tobytes())
        stream.append((t + delay, message))

    def _with_faults(self, stream: list[tuple[int, Message]]) -> list[Message]:
        """The stream in order of arrival, with records that are refused or discarded in between."""
        messages = [message for _, message in sorted(stream, key=lambda item: item[0])]
        for what in ("rejected", "rejected", "discarded"):
            self.number += 1
            at = self.dice.below(len(messages) + 1)
            stamp = messages[at - 1].timestamp_ms if at else T0_NS // 1_000_000
            if what == "rejected":
                bad = Message(b"bad-%d" % self.number, stamp, rejected="satNo 7 is not known")
            else:
                bad = Message(b"void-%d" % self.number, stamp, discarded="empty")
            messages.insert(at, bad)
        return messages
