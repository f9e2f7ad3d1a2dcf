"""The truth file: what really happens. Written by ``sda-sim catalogue``, read by the others.

Where an object really is: ``x_SGP4(t) + (Q'c, w x Q'c)``, Q its RTN axes, ``w = r x v / |r|^2``,
c one draw of the prior position (SPEC 12). A constant offset in the turning RTN frame does not
run away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from sda_pipeline.astro.reference import rtn_axes
from sda_pipeline.cli.sim.outfile import write_atomically
from sda_pipeline.errors import InvalidConfiguration

F8 = npt.NDArray[np.float64]
TRUTH_VERSION = 1
NO_LEVEL = "none"


class Encounter(msgspec.Struct, frozen=True, kw_only=True):
    """One true encounter. Times ns since 1970 UTC, lengths m, sat1 < sat2."""

    origin: str  # "engineered", or "natural": the background's own, observed by chance only
    sat1: int
    sat2: int
    alert_id: str
    tca_cat_ns: int  # the schedule's TCA, from the catalogue alone
    miss_cat_m: float
    tca_ns: int  # of the true trajectories
    tca: str
    miss_m: float
    rel_speed_m_s: float
    wanted_miss_m: float | None = None
    expected_level: str | None = (
        None  # RED, YELLOW, WATCH, none; null: nobody is sent to observe it
    )
    expected_pc: float | None = None
    observers: tuple[str, ...] = ()  # the six sensors the expectation assumes for each object


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One injected message and the class it must end in."""

    topic: str
    key: str
    timestamp_ms: int
    fault: str
    expected: str  # an ErrorKind, "discarded", "duplicate", "unpaired" or "late"
    id: str | None = None


class TrafficNote(msgspec.Struct, frozen=True, kw_only=True):
    """What was sent: present in the truth of a recording or of a run, not of a catalogue."""

    start_ns: int
    end_ns: int
    seed: int
    rate: float
    noise_free: bool
    on_catalogue: bool
    all_objects: bool
    messages: dict[str, int]  # by topic, injected ones included


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file."""

    version: int = TRUTH_VERSION
    epoch: str
    epoch_ns: int
    ends_ns: int  # the last engineered encounter
    seed: int
    objects: int
    on_catalogue: bool
    catalogue_sha256: str
    offsets: dict[int, tuple[float, float, float]]  # c per satNo: R, T, N in m
    encounters: tuple[Encounter, ...]
    traffic: TrafficNote | None = None
    faults: tuple[Fault, ...] = ()


def digest(catalogue: bytes) -> str:
    """What ties a truth file to its catalogue."""
    return hashlib.sha256(catalogue).hexdigest()


def truth_path(catalogue: Path) -> Path:
    """The truth file beside a catalogue: ``<catalogue>.truth.json``."""
    return catalogue.with_name(catalogue.name + ".truth.json")


def write_truth(path: Path, truth: Truth) -> None:
    """By temp file and rename; one line per object, encounter and fault, for grep."""
    lines: list[bytes] = []
    for name in truth.__struct_fields__:
        value, key = getattr(truth, name), msgspec.json.encode(name)
        if isinstance(value, dict):
            entries = [b'"%d":%b' % (k, msgspec.json.encode(v)) for k, v in value.items()]
            body = b"{\n%b\n}" % b",\n".join(entries)
        elif isinstance(value, tuple):
            body = b"[\n%b\n]" % b",\n".join(map(msgspec.json.encode, value))
        else:
            body = msgspec.json.encode(value)
        lines.append(key + b": " + body)
    write_atomically(path, b"{\n" + b",\n".join(lines) + b"\n}\n")


def read_truth(path: Path, catalogue: bytes | None = None) -> Truth:
    """Read one; InvalidConfiguration when it is absent, malformed or of another catalogue."""
    action = f"read the truth file {path}"
    hint = "make one with `sda-sim catalogue`, or observe the catalogue itself with --on-catalogue"
    try:
        truth = msgspec.json.decode(path.read_bytes(), type=Truth)
    except OSError as error:
        raise InvalidConfiguration(action, [error.strerror or str(error)], hint) from error
    except msgspec.DecodeError as error:
        raise InvalidConfiguration(action, [str(error)], hint) from error
    if truth.version != TRUTH_VERSION:
        raise InvalidConfiguration(action, [f"its version {truth.version} is unknown"], hint)
    if catalogue is not None and truth.catalogue_sha256 != digest(catalogue):
        raise InvalidConfiguration(action, ["it belongs to another catalogue"], hint)
    return truth


def offset_table(satno: Sequence[int] | npt.NDArray[np.uint32], truth: Truth | None) -> F8:
    """c by catalogue index, (n,3) m; zeros without a truth: objects keep to their elements."""
    if truth is None:
        return np.zeros((len(satno), 3))
    zero = (0.0, 0.0, 0.0)
    return np.array([truth.offsets.get(int(s), zero) for s in satno], dtype=np.float64)


def displaced(r: F8, v: F8, c: F8) -> tuple[F8, F8]:
    """The true states (m,3) of catalogue states r, v (m,3) with offsets c (m,3) RTN; SI, TEME."""
    axes = rtn_axes(r, v)
    shift = axes[:, :, 0] * c[:, :1] + axes[:, :, 1] * c[:, 1:2] + axes[:, :, 2] * c[:, 2:]
    squared = r[:, 0] * r[:, 0] + r[:, 1] * r[:, 1] + r[:, 2] * r[:, 2]
    turn = np.cross(r, v) / squared[:, None]
    return r + shift, v + np.cross(turn, shift)
