"""Bad messages on top of good traffic, each with the class it must end in. Never instead of it.

Injected messages are extra: the good ones stay byte for byte what they are without faults, so the
pipeline's final alerts must be the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from sda_pipeline.astro.reference import pane_of
from sda_pipeline.cli.sim.scene import Scene
from sda_pipeline.cli.sim.traffic import Message
from sda_pipeline.cli.sim.truth import Fault
from sda_pipeline.limits import PANES_PER_ENCOUNTER, PAYLOAD_BYTES_MAX, SECOND_NS
from sda_pipeline.records.times import format_time, parse_times
from sda_pipeline.settings import ISL, KIND_NAMES, OPTICAL, RADAR
from sda_pipeline.vocabulary import ErrorKind

Fields = dict[str, Any]
Injected = tuple[Message, Fault]

DESERIALIZATION = ErrorKind.DESERIALIZATION.value
SCHEMA = ErrorKind.SCHEMA_MISMATCH.value
VALIDATION = ErrorKind.VALIDATION_FAILED.value
DISCARDED, DUPLICATE, UNPAIRED, LATE = "discarded", "duplicate", "unpaired", "late"

DUPLICATE_WITHIN_MS = 2000  # well inside the allowed lateness
LATE_MARGIN_S = (5.0, 15.0)  # beyond max + allowed lateness, so that quiet partitions agree
AHEAD_S = 10.0  # of the broker's timestamp; 2 s are allowed
_FAULTS = 103  # random stream
_MAIN = {RADAR: "range", OPTICAL: "ra", ISL: "xpos"}  # one required number of each kind
_SIGMA = {RADAR: "rangeUnc", OPTICAL: "raUnc", ISL: "posUnc"}


@dataclass(frozen=True)
class FaultMix:
    """Fractions of the good traffic, each on top of it."""

    corrupt: float = 0.0
    duplicates: float = 0.0
    late: float = 0.0

    @property
    def any(self) -> bool:
        """Whether there is anything to inject."""
        return max(self.corrupt, self.duplicates, self.late) > 0.0


def _broken_json(_kind: int, value: bytes, _fields: Fields, _at_ms: int) -> bytes:
    return value[: len(value) * 2 // 3]


def _binary_noise(_kind: int, value: bytes, _fields: Fields, at_ms: int) -> bytes:
    return b"\xff\xfe\x00" + np.random.default_rng([at_ms, len(value)]).bytes(200)


def _deep_nesting(_kind: int, value: bytes, _fields: Fields, _at_ms: int) -> bytes:
    return value[:-1] + b',"note":' + b"[" * 20_000 + b"]" * 20_000 + b"}"


def _wrong_type(kind: int, _value: bytes, fields: Fields, _at_ms: int) -> bytes:
    return orjson.dumps({**fields, _MAIN[kind]: "far"})


def _missing_field(kind: int, _value: bytes, fields: Fields, _at_ms: int) -> bytes:
    return orjson.dumps({name: x for name, x in fields.items() if name != _MAIN[kind]})


def _bad_uuid(_kind: int, _value: bytes, fields: Fields, _at_ms: int) -> bytes:
    return orjson.dumps({**fields, "id": "not-a-uuid"})


def _bad_time(_kind: int, _value: bytes, fields: Fields, _at_ms: int) -> bytes:
    return orjson.dumps({**fields, "obTime": fields["obTime"][:17] + "60.5Z"})


def _new_schema(_kind: int, _value: bytes, fields: Fields, _at_ms: int) -> bytes:
    return orjson.dumps({**fields, "schemaVersion": 99})


def _empty(_kind: int, _value: bytes, _fields: Fields, _at_ms: int) -> bytes:
    return b""


def _oversize(_kind: int, _value: bytes, fields: Fields, _at_ms: int) -> bytes:
    return orjson.dumps({**fields, "note": "x" * PAYLOAD_BYTES_MAX})


def _unknown_object(_kind: int, _value: bytes, fields: Fields, _at_ms: int) -> bytes:
    return orjson.dumps({**fields, "satNo": 999_999_999})


def _unknown_sensor(_kind: int, _value: bytes, fields: Fields, _at_ms: int) -> bytes:
    return orjson.dumps({**fields, "idSensor": "NO-SUCH-SENSOR"})


def _impossible(kind: int, _value: bytes, fields: Fields, _at_ms: int) -> bytes:
    wrong: Fields = {RADAR: {"range": 1.0}, OPTICAL: {"declination": 95.0}}.get(kind, {})
    if kind == ISL:  # a hundred metres from the centre of the Earth
        wrong = {axis: fields[axis] * 1e-5 for axis in ("xpos", "ypos", "zpos")}
    return orjson.dumps({**fields, **wrong})


def _not_finite(kind: int, _value: bytes, fields: Fields, _at_ms: int) -> bytes:
    number = orjson.dumps(fields[_MAIN[kind]])
    name = f'"{_MAIN[kind]}":'.encode()
    return orjson.dumps(fields).replace(name + number, name + b"1e999")


def _zero_sigma(kind: int, _value: bytes, fields: Fields, _at_ms: int) -> bytes:
    return _with_sigma(kind, fields, 0.0)


def _negative_sigma(kind: int, _value: bytes, fields: Fields, _at_ms: int) -> bytes:
    return _with_sigma(kind, fields, -0.5)


def _with_sigma(kind: int, fields: Fields, sigma: float) -> bytes:
    fields = {name: x for name, x in fields.items() if name != "cov"}
    return orjson.dumps({**fields, _SIGMA[kind]: sigma})


def _clock_ahead(_kind: int, _value: bytes, fields: Fields, at_ms: int) -> bytes:
    ahead = at_ms * 1_000_000 + round(AHEAD_S * SECOND_NS)
    return orjson.dumps({**fields, "obTime": format_time(ahead)})


def _outlier(kind: int, _value: bytes, fields: Fields, _at_ms: int) -> bytes:
    """Plausible, but hundreds of sigmas from where the object can be."""
    shift = {RADAR: 100.0, OPTICAL: 20.0, ISL: 100.0}[kind]
    name = "declination" if kind == OPTICAL else _MAIN[kind]
    moved = fields[name] + math.copysign(shift, -fields[name])
    return orjson.dumps({**fields, name: moved})


Corruption = Callable[[int, bytes, Fields, int], bytes]
CORRUPTIONS: dict[str, tuple[Corruption, str]] = {
    "broken_json": (_broken_json, DESERIALIZATION),
    "binary_noise": (_binary_noise, DESERIALIZATION),
    "deep_nesting": (_deep_nesting, DESERIALIZATION),
    "wrong_type": (_wrong_type, DESERIALIZATION),
    "missing_field": (_missing_field, DESERIALIZATION),
    "bad_uuid": (_bad_uuid, DESERIALIZATION),
    "bad_time": (_bad_time, DESERIALIZATION),
    "new_schema": (_new_schema, SCHEMA),
    "empty": (_empty, DISCARDED),
    "oversize": (_oversize, DISCARDED),
    "unknown_object": (_unknown_object, VALIDATION),
    "unknown_sensor": (_unknown_sensor, VALIDATION),
    "impossible": (_impossible, VALIDATION),
    "not_finite": (_not_finite, VALIDATION),
    "zero_sigma": (_zero_sigma, VALIDATION),
    "negative_sigma": (_negative_sigma, VALIDATION),
    "clock_ahead": (_clock_ahead, VALIDATION),
    "outlier": (_outlier, VALIDATION),
}
_NAMES = [*CORRUPTIONS]


def corrupted(name: str, kind: int, value: bytes, timestamp_ms: int) -> bytes:
    """One good message (of ``kind``) made bad in the way of CORRUPTIONS[name]."""
    change, _ = CORRUPTIONS[name]
    return change(kind, value, orjson.loads(value), timestamp_ms)


class Injector:
    """Makes the extra messages of a slice.

    ``last_ms``: late ones must still be overtaken before it.
    """

    def __init__(self, scene: Scene, mix: FaultMix, seed: int, last_ms: int | None) -> None:
        self._scene, self._mix, self._seed, self._last_ms = scene, mix, seed, last_ms
        self._kinds = {topic: kind for kind, topics in scene.topics.items() for topic in topics}
        self._panes: dict[int, list[int]] = {}
        for e in scene.encounters:
            for sat in (e.sat1, e.sat2):
                self._panes.setdefault(sat, []).append(pane_of(e.tca_cat_ns))

    def inject(self, number: int, good: Sequence[Message]) -> list[Injected]:
        """What is added to the good messages of slice ``number``."""
        if not self._mix.any:
            return []
        rng = np.random.default_rng([self._seed, _FAULTS, number])
        draw = rng.random((len(good), 3))
        found: list[Injected] = []
        for message, (corrupt, duplicate, late) in zip(good, draw.tolist(), strict=True):
            if corrupt < self._mix.corrupt:
                found.append(self._corrupt(rng, message))
            if duplicate < self._mix.duplicates:
                found.append(self._duplicate(rng, message))
            if late < self._mix.late and (tardy := self._late(rng, message)) is not None:
                found.append(tardy)
        return found

    def _corrupt(self, rng: np.random.Generator, message: Message) -> Injected:
        name = _NAMES[int(rng.integers(len(_NAMES)))]
        uuid, value = _renamed(rng, message.value)
        kind = self._kinds[message.topic]
        bad = message._replace(value=corrupted(name, kind, value, message.timestamp_ms))
        return bad, _fault(bad, name, CORRUPTIONS[name][1], uuid)

    def _duplicate(self, rng: np.random.Generator, message: Message) -> Injected:
        at = message.timestamp_ms + int(rng.integers(0, DUPLICATE_WITHIN_MS))
        fields = orjson.loads(message.value)
        pane = pane_of(int(parse_times([fields["obTime"]])[0][0]))
        near = (p - pane for p in self._panes.get(fields["satNo"], ()))
        paired = any(0 <= ahead < PANES_PER_ENCOUNTER for ahead in near)
        again = message._replace(timestamp_ms=at)
        expected = DUPLICATE if paired else UNPAIRED
        if not self._scene.encounters:  # without a truth file nobody knows
            expected = f"{DUPLICATE} or {UNPAIRED}"
        return again, _fault(again, "duplicate", expected, fields["id"])

    def _late(self, rng: np.random.Generator, message: Message) -> Injected | None:
        event_time = self._scene.event_time
        kind = KIND_NAMES[self._kinds[message.topic]]
        hold = event_time.max_lateness_s[kind] + event_time.allowed_lateness_s
        at = message.timestamp_ms + round(1000 * (hold + rng.uniform(*LATE_MARGIN_S)))
        if self._last_ms is not None and at > self._last_ms:
            return None
        uuid, value = _renamed(rng, message.value)
        late = message._replace(value=value, timestamp_ms=at)
        return late, _fault(late, "late", LATE, uuid)


def _renamed(rng: np.random.Generator, value: bytes) -> tuple[str, bytes]:
    """The same observation under an id of its own."""
    digits = rng.bytes(16).hex()
    uuid = f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-b{digits[17:20]}-{digits[20:]}"
    return uuid, orjson.dumps({**orjson.loads(value), "id": uuid})


def _fault(message: Message, name: str, expected: str, uuid: str) -> Fault:
    return Fault(
        topic=message.topic, key=message.key.decode(), timestamp_ms=message.timestamp_ms,
        fault=name, expected=expected, id=uuid,
    )  # fmt: skip
