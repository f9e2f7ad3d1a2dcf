"""Observations as producers send them: JSON <-> typed structs and columns (SPEC 1).

Everything here is form: what is not the agreed JSON becomes a typed rejection, never an exception.
What the numbers mean (ranges, sensors, physics) is judged by operators/core/validation.py.
"""

from __future__ import annotations

import json
import math
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, compress
from typing import Any, Literal, NamedTuple, NoReturn, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from sda_pipeline.limits import PAYLOAD_BYTES_MAX, SENSOR_ID_CHARS_MAX
from sda_pipeline.records.observations import (
    ABSENT,
    COV_TERMS,
    NUMBERS,
    SCHEMA_VERSION,
    STRUCTS,
    TOPICS,
    Envelope,
    IslObs,
    Obs,
    OpticalObs,
    RadarObs,
    encode_isl,
    encode_optical,
    encode_radar,
    number_names,
)
from sda_pipeline.records.times import TIME_RULE, parse_times
from sda_pipeline.records.uuids import UUID_RULE, parse_uuids
from sda_pipeline.vocabulary import ErrorKind

__all__ = [
    "ABSENT", "COV_TERMS", "SCHEMA_VERSION", "TOPICS", "Decoded", "Discarded", "Envelope", "IslObs",
    "Obs", "OpticalObs", "RadarObs", "Rejected", "decode_batch", "encode_isl", "encode_optical",
    "encode_radar", "shortened", "shown",
]  # fmt: skip

F8 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int64]
Discard: TypeAlias = Literal["empty", "oversize"]

MESSAGE_CHARS_MAX = 300  # a rejection quotes its record; the record itself is kept beside it
VALUE_CHARS_MAX = 60
FLOAT_DIGITS_MAX = 308  # an integer of more digits is beyond a float
SITE = ("senlat", "senlon", "senalt")


class _Format(NamedTuple):
    """How one kind is read."""

    decode: Callable[[bytes], Obs]
    struct: type[Obs]
    names: tuple[str, ...]
    numbers: Callable[[Sequence[Any]], list[tuple[float, ...]]]


_FORMATS = {
    kind: _Format(msgspec.json.Decoder(obs).decode, obs, number_names(obs), NUMBERS[kind])
    for kind, obs in STRUCTS.items()
}
# RecursionError: nesting too deep. ValueError: bad UTF-8, or an integer of thousands of digits.
_UNREADABLE = (msgspec.MsgspecError, RecursionError, ValueError, OverflowError)


class Rejected(NamedTuple):
    """One record that goes to the DLQ; ``message`` names the rule, the value, the limit."""

    index: int  # type: ignore[assignment]  # position in the batch; shadows tuple.index
    kind: ErrorKind
    message: str
    sensor: str  # "" when the record could not be read that far


class Discarded(NamedTuple):
    """One record that is only counted."""

    index: int  # type: ignore[assignment]  # position in the batch; shadows tuple.index
    reason: Discard


@dataclass(frozen=True)
class Decoded:
    """The well-formed records of a batch as columns of n, in batch order, and all the others."""

    observations: list[Obs]
    index: I8  # position in the batch
    ids: npt.NDArray[np.uint64]  # (n, 2)
    t: I8  # event time, ns
    sat: I8
    sensors: list[str]  # idSensor
    numbers: dict[str, F8]  # by wire name, in wire units; NaN = not sent, inf = not finite
    j2000: npt.NDArray[np.bool_]  # referenceFrame is J2000
    cov: F8  # isl: (n, 21), km and s, NaN where it was not sent; else (n, 0)
    rejects: list[Rejected]
    discards: list[Discarded]


def shown(value: object) -> str:
    """A value as a message quotes it, shortened."""
    if isinstance(value, int) and value.bit_length() > 64:
        return f"(an integer of {value.bit_length()} bits)"
    return shortened(repr(value), VALUE_CHARS_MAX)


def shortened(text: str, characters: int) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= characters else text[: characters - 3] + "..."


def decode_batch(kind: int, values: Sequence[bytes], first: int = 0) -> Decoded:
    """Read a batch of one kind. ``first`` is added to every index. Never raises.

    Each value ends in exactly one of: a row of the columns, a rejection (Deserialization or
    SchemaMismatch, the first rule of SPEC 1 it breaks), a discard.
    """
    rejects: list[Rejected] = []
    index, kept, discards = _discard(values, first)
    form = _FORMATS[kind]
    try:
        observations = list(map(form.decode, kept))
        for value in kept:
            if not value.isascii():
                value.decode()  # the decoder does not look into what it skips; JSON is all UTF-8
    except _UNREADABLE:
        observations = []
        readable = np.ones(len(kept), np.bool_)
        for k, value in enumerate(kept):
            result = _decode_one(form, value)
            if isinstance(result, str):
                readable[k] = False
                why = shortened(result, MESSAGE_CHARS_MAX)
                rejects.append(Rejected(int(index[k]), ErrorKind.DESERIALIZATION, why, ""))
            else:
                observations.append(result)
        index = index[readable]
    return _columns(form, index, observations, rejects, discards)


def _discard(values: Sequence[bytes], first: int) -> tuple[I8, Sequence[bytes], list[Discarded]]:
    """Indexes and values of what is neither empty nor oversize."""
    index = np.arange(first, first + len(values))
    sizes = list(map(len, values))
    if not sizes or (min(sizes) > 0 and max(sizes) <= PAYLOAD_BYTES_MAX):
        return index, values, []
    keep = [0 < size <= PAYLOAD_BYTES_MAX for size in sizes]
    discards = [
        Discarded(first + k, "oversize" if sizes[k] else "empty")
        for k, kept in enumerate(keep)
        if not kept
    ]
    return index[keep], list(compress(values, keep)), discards


def _decode_one(form: _Format, value: bytes) -> Obs | str:
    """One value read alone: the observation, or why it cannot be read."""
    try:
        value.decode()
        return form.decode(value)
    except RecursionError:
        return f"not JSON: nested too deeply, at most {sys.getrecursionlimit()} levels"
    except msgspec.ValidationError as error:
        why = f"wrong form: {error}"
    except _UNREADABLE as error:
        why = f"not JSON: {error}"
    if "out of range" not in why:
        return why
    return _decode_huge(form, value, why)


def _decode_huge(form: _Format, value: bytes, why: str) -> Obs | str:
    """Read a record that holds a number like 1e999: well-formed, so it is judged as not finite."""
    try:
        fields = json.loads(value, parse_int=_int_or_inf, parse_constant=_no_constant)
        obs = msgspec.convert(fields, form.struct)
        f"{obs.id}{obs.idSensor}{obs.obTime}".encode()  # the fast decoder refuses lone surrogates
    except _UNREADABLE:
        return why
    return obs


def _int_or_inf(text: str) -> int | float:
    return int(text) if len(text) <= FLOAT_DIGITS_MAX else math.copysign(math.inf, float(text))


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _columns(
    form: _Format,
    index: I8,
    observations: list[Obs],
    rejects: list[Rejected],
    discards: list[Discarded],
) -> Decoded:
    """Columns of what could be read, without what is not a UUID, a time or a known version."""
    ids, good_ids = parse_uuids([o.id for o in observations])
    t, good_times = parse_times([o.obTime for o in observations])
    numbers = _matrix(form, observations)
    good = good_ids & good_times & _site_complete(form, numbers)
    old = [o.schemaVersion != SCHEMA_VERSION for o in observations]
    if any(old):
        good &= ~np.array(old)
    if not good.all():
        for k in np.flatnonzero(~good).tolist():
            kind, message = _form_fault(observations[k], good_ids[k], good_times[k], old[k])
            message = shortened(message, MESSAGE_CHARS_MAX)
            sensor = observations[k].idSensor[:SENSOR_ID_CHARS_MAX]
            rejects.append(Rejected(int(index[k]), kind, message, sensor))
        rejects.sort()
        observations = list(compress(observations, good.tolist()))
        index, ids, t = index[good], ids[good], t[good]
        numbers = np.ascontiguousarray(numbers[:, good])
    count = len(observations)
    j2000, cov = np.zeros(count, np.bool_), np.empty((count, 0))
    if form.struct is IslObs:
        j2000, cov = _isl_columns(observations)
    return Decoded(
        observations,
        index,
        ids,
        t,
        _satellites(observations),
        [o.idSensor for o in observations],
        dict(zip(form.names, numbers, strict=True)),
        j2000,
        cov,
        rejects,
        discards,
    )


def _form_fault(
    obs: Obs, good_id: np.bool_, good_time: np.bool_, old: bool
) -> tuple[ErrorKind, str]:
    """The first rule of form an observation breaks."""
    if not good_id:
        return ErrorKind.DESERIALIZATION, f"id {shown(obs.id)} is not a UUID: {UUID_RULE}"
    if not good_time:
        return ErrorKind.DESERIALIZATION, f"obTime {shown(obs.obTime)} is not a time: {TIME_RULE}"
    absent = [name for name in SITE if math.isnan(getattr(obs, name, 0.0))]
    if 0 < len(absent) < len(SITE):
        missing = " and ".join(absent)
        return (
            ErrorKind.DESERIALIZATION,
            f"{missing} missing: {', '.join(SITE)} go all three or none",
        )
    assert old, "an observation was refused without a rule"
    version = shown(obs.schemaVersion)
    return ErrorKind.SCHEMA_MISMATCH, f"schemaVersion {version} is not supported: {SCHEMA_VERSION}"


def _isl_columns(observations: Sequence[Obs]) -> tuple[npt.NDArray[np.bool_], F8]:
    """Who speaks in J2000 (n,), and ``cov`` (n, 21), NaN where it was not sent."""
    states = [o for o in observations if isinstance(o, IslObs)]
    cov = np.full((len(states), COV_TERMS), ABSENT)
    sent = [k for k, o in enumerate(states) if o.cov]
    if sent:
        cov[sent] = [states[k].cov for k in sent]
    return np.array([o.referenceFrame == "J2000" for o in states], np.bool_), cov


def _site_complete(form: _Format, numbers: F8) -> npt.NDArray[np.bool_]:
    """Whose site override is whole or absent (n,)."""
    if SITE[0] not in form.names:
        return np.ones(numbers.shape[1], np.bool_)
    first, second, third = (np.isnan(numbers[form.names.index(name)]) for name in SITE)
    complete: npt.NDArray[np.bool_] = (first == second) & (second == third)
    return complete


def _matrix(form: _Format, observations: list[Obs]) -> F8:
    """The float fields (names, n). struct.pack is the fastest way from Python floats to memory."""
    flat = chain.from_iterable(form.numbers(observations))
    count = len(form.names) * len(observations)
    packed = np.frombuffer(struct.pack(f"{count}d", *flat), np.float64)
    return np.ascontiguousarray(packed.reshape(len(observations), len(form.names)).T)


def _satellites(observations: list[Obs]) -> I8:
    """satNo (n,); -1 for what is beyond 64 bits (the observation keeps the value)."""
    numbers = [o.satNo for o in observations]
    try:
        return np.frombuffer(struct.pack(f"{len(numbers)}q", *numbers), np.int64)
    except struct.error:
        return np.array([n if abs(n) < 1 << 62 else -1 for n in numbers], np.int64)
