"""Element sets from text: two- and three-line, OMM csv/json/xml. Not which of them are usable.

Every reader is a pure function of the text; what cannot be read is listed with its reason.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple
from xml.etree.ElementTree import ParseError

import orjson
from sgp4 import omm
from sgp4.alpha5 import from_alpha5
from sgp4.api import WGS72, Satrec

from sda_pipeline.errors import InvalidConfiguration
from sda_pipeline.limits import SATNO_MAX

LINE_CHARS = 68  # an element line without its checksum digit
ALPHA5 = "ABCDEFGHJKLMNPQRSTUVWXYZ"  # for 10..33; I and O look like digits
EPHEMERIS_TYPE_COLUMN = 62
XP = "4"  # ephemeris type of SGP4-XP: the same columns, another theory
XP_FAULT = "SGP4-XP elements (ephemeris type 4), only SGP4 is propagated"
# A character's share of a line's checksum: digits count themselves, a minus sign 1.
_CHECKSUM = bytes(c - 48 if 48 <= c <= 57 else int(c == ord("-")) for c in range(256))

Refusal = tuple[int, str]  # (satNo, or 0 where it cannot be read; reason)


class Element(NamedTuple):
    """One element set ready to propagate."""

    satno: int
    name: str
    satrec: Any  # sgp4.api.Satrec


def read_elements(text: str, fmt: str) -> tuple[list[Element], list[Refusal]]:
    """All element sets of ``text`` in file order, and what could not be read.

    Args:
        fmt: ``tle`` (two- or three-line), ``csv``, ``json`` or ``xml`` (OMM).

    Raises:
        InvalidConfiguration: unknown format, or text that is no csv/json/xml at all.
    """
    if fmt == "tle":
        return _read_tle(text)
    reader = _OMM_READERS.get(fmt)
    if reader is None:
        raise InvalidConfiguration(
            "read the catalogue", [f"unknown format {fmt!r}"], "use tle, csv, json or xml"
        )
    try:
        records = list(reader(text))
    except (ValueError, ParseError, AttributeError, TypeError) as error:
        raise InvalidConfiguration(
            "read the catalogue", [f"not OMM {fmt}: {error}"], "check the file and its suffix"
        ) from error
    return _read_omm(records)


def _read_tle(text: str) -> tuple[list[Element], list[Refusal]]:
    elements: list[Element] = []
    refused: list[Refusal] = []
    name = ""
    lines = [line.rstrip() for line in text.splitlines()]
    n = 0
    while n < len(lines):
        line = lines[n]
        n += 1
        if not line or line.startswith("#"):
            continue
        following = lines[n] if n < len(lines) else ""
        if _is_line(line, "1") and following.startswith("2 "):
            n += 1
            _add_tle(line, following, name, elements, refused)
            name = ""
        elif _is_line(line, "1") or _is_line(line, "2"):
            refused.append((_satno_or_0(line), f"element line {line[0]} without its other line"))
            name = ""
        else:
            name = line.removeprefix("0 ").strip()
    return elements, refused


def _is_line(line: str, number: str) -> bool:
    return len(line) >= LINE_CHARS and line.startswith(number + " ")


def _add_tle(
    line1: str, line2: str, name: str, elements: list[Element], refused: list[Refusal]
) -> None:
    satno = _satno_or_0(line1)
    reason = _tle_fault(line1, line2)
    if not reason and not satno:
        reason = f"{line1[2:7]!r} is no catalogue number"
    if not reason:
        try:
            satrec = Satrec.twoline2rv(line1, line2, WGS72)
        except ValueError as error:
            reason = str(error)
    if reason:
        refused.append((satno, reason))
    else:
        elements.append(Element(satno, name or str(satno), satrec))


def _tle_fault(line1: str, line2: str) -> str:
    """Why a pair of lines cannot be trusted, or ''. SGP4's own reader takes any characters."""
    if len(line2) < LINE_CHARS:
        return f"line 2 has {len(line2)} characters, {LINE_CHARS} are needed"
    if not (line1.isascii() and line2.isascii()):
        return "characters outside ASCII"
    if line1[2:7] != line2[2:7]:
        return f"lines of two objects, {line1[2:7]} and {line2[2:7]}"
    if line1[EPHEMERIS_TYPE_COLUMN] == XP:
        return XP_FAULT
    for line in (line1, line2):
        wanted = line[LINE_CHARS : LINE_CHARS + 1].strip()  # absent in some sources
        found = str(sum(line[:LINE_CHARS].encode().translate(_CHECKSUM)) % 10)
        if wanted and wanted != found:
            return f"checksum of line {line[0]} is {wanted}, its characters give {found}"
    return ""


def _satno_or_0(line: str) -> int:
    """The catalogue number in an element line, alpha-5 decoded; 0 where there is none."""
    text = line[2:7].strip()
    letter, digits = (text[0], text[1:]) if text[:1].isalpha() else ("", text)
    if letter not in ALPHA5 or not (digits.isascii() and digits.isdigit()):
        return 0
    return int(from_alpha5(text))


def _read_omm(records: Iterable[Mapping[str, Any]]) -> tuple[list[Element], list[Refusal]]:
    elements: list[Element] = []
    refused: list[Refusal] = []
    for fields in records:
        satno = 0
        try:
            satno = int(fields["NORAD_CAT_ID"])
            if not 0 < satno <= SATNO_MAX:
                satno, unusable = 0, satno
                refused.append((0, f"{unusable} is no catalogue number"))
                continue
            if str(fields.get("EPHEMERIS_TYPE")).strip() == XP:
                refused.append((satno, XP_FAULT))
                continue
            satrec = Satrec()
            # SGP4 keeps numbers below 340,000 only and does not compute with them: give it none.
            omm.initialize(
                satrec, {**fields, "NORAD_CAT_ID": 0, "EPOCH": _epoch_text(fields["EPOCH"])}
            )
        except KeyError as error:
            refused.append((satno, f"field {error.args[0]} is missing"))
        except (ValueError, TypeError, AttributeError) as error:
            refused.append((satno, f"not an OMM record: {error}"))
        else:
            elements.append(Element(satno, str(fields.get("OBJECT_NAME") or satno), satrec))
    return elements, refused


def _epoch_text(epoch: str) -> str:
    """An OMM epoch with exactly 6 fractional digits and no Z, as ``sgp4.omm`` wants it."""
    whole, _, fraction = epoch.strip().removesuffix("Z").partition(".")
    return f"{whole}.{fraction[:6]:0<6}"


def _omm_csv(text: str) -> Iterable[Mapping[str, Any]]:
    return omm.parse_csv(io.StringIO(text))  # type: ignore[no-any-return]


def _omm_xml(text: str) -> Iterable[Mapping[str, Any]]:
    return omm.parse_xml(io.StringIO(text))  # type: ignore[no-any-return]


def _omm_json(text: str) -> Iterable[Mapping[str, Any]]:
    records = orjson.loads(text)
    if isinstance(records, dict):
        records = [records]
    if not (isinstance(records, list) and all(isinstance(record, dict) for record in records)):
        raise ValueError("expected a list of objects")
    return records


_OMM_READERS: dict[str, Callable[[str], Iterable[Mapping[str, Any]]]] = {
    "csv": _omm_csv,
    "json": _omm_json,
    "xml": _omm_xml,
}
