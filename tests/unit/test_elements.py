"""Element sets from text: every format gives the same orbits; what is bad is refused and listed."""

from __future__ import annotations

import csv
import io
from xml.sax.saxutils import escape

import numpy as np
import orjson
import pytest
from sgp4 import exporter

from sda_pipeline.astro.catalogue import julian, parse_catalogue
from sda_pipeline.errors import InvalidConfiguration
from sda_pipeline.limits import PANE_NS
from tests.unit.orbit_rig import (
    EPOCH_DAYS,
    EPOCH_NS,
    checksummed,
    epoch_ns,
    satrec,
    tle,
    verification_set,
)

GOOD = tle(7)


def reasons(text: str, fmt: str = "tle") -> list[tuple[int, str]]:
    """Refusals of a text to which one good object is added."""
    return parse_catalogue(f"{text}\n{GOOD}", fmt).refused


# --- formats ------------------------------------------------------------------------------


def omm_records() -> list[dict[str, object]]:
    sats = [satrec(5, rev_per_day=14.2), satrec(9, rev_per_day=2.0056)]
    return [exporter.export_omm(sat, f"OBJECT {sat.satnum}") for sat in sats]


def as_csv(records: list[dict[str, object]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, records[0].keys())
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()


def as_xml(records: list[dict[str, object]]) -> str:
    groups = {
        "metadata": ("OBJECT_NAME", "OBJECT_ID"),
        "meanElements": (
            "EPOCH", "MEAN_MOTION", "ECCENTRICITY", "INCLINATION", "RA_OF_ASC_NODE",
            "ARG_OF_PERICENTER", "MEAN_ANOMALY",
        ),
        "tleParameters": (
            "EPHEMERIS_TYPE", "CLASSIFICATION_TYPE", "NORAD_CAT_ID", "ELEMENT_SET_NO",
            "REV_AT_EPOCH", "BSTAR", "MEAN_MOTION_DOT", "MEAN_MOTION_DDOT",
        ),
    }  # fmt: skip

    def group(record: dict[str, object], name: str) -> str:
        inner = "".join(f"<{k}>{escape(str(record[k]))}</{k}>" for k in groups[name])
        return f"<{name}>{inner}</{name}>"

    segments = "".join(
        f"<segment>{group(record, 'metadata')}<data>{group(record, 'meanElements')}"
        f"{group(record, 'tleParameters')}</data></segment>"
        for record in records
    )
    return f'<?xml version="1.0" encoding="UTF-8"?><ndm><omm><body>{segments}</body></omm></ndm>'


def as_json(records: list[dict[str, object]]) -> str:
    return orjson.dumps(records).decode()


def as_tle(records: list[dict[str, object]]) -> str:
    sats = [satrec(5, rev_per_day=14.2), satrec(9, rev_per_day=2.0056)]
    names = [str(record["OBJECT_NAME"]) for record in records]
    return "\r\n".join(
        line
        for name, sat in zip(names, sats, strict=True)
        for line in (f"0 {name}", *exporter.export_tle(sat))
    )


@pytest.mark.parametrize(
    ("fmt", "write"), [("tle", as_tle), ("csv", as_csv), ("json", as_json), ("xml", as_xml)]
)
def test_every_format_gives_the_same_orbits(fmt: str, write: object) -> None:
    catalogue = parse_catalogue(write(omm_records()), fmt)  # type: ignore[operator]
    assert catalogue.satno.tolist() == [5, 9]
    assert catalogue.names == ["OBJECT 5", "OBJECT 9"]
    assert catalogue.leo.tolist() == [True, False]
    assert catalogue.refused == []
    for index, rate in enumerate((14.2, 2.0056)):
        assert catalogue.mean_motion[index] == pytest.approx(rate, rel=1e-9)
        assert catalogue.period_s[index] == pytest.approx(86_400 / rate, rel=1e-9)
        error, r, _ = satrec(1, rev_per_day=rate).sgp4(*julian(EPOCH_NS + 10**12))
        assert error == 0
        # element sets are printed to 1e-4 degrees
        assert np.allclose(
            catalogue.state_at(index, EPOCH_NS + 10**12)[0], np.array(r) * 1e3, atol=100
        )


def test_parsing_is_a_function_of_the_text() -> None:
    text = as_tle(omm_records())
    first, second = parse_catalogue(text, "tle"), parse_catalogue(text, "tle")
    assert np.array_equal(first.nodes(EPOCH_NS // PANE_NS), second.nodes(EPOCH_NS // PANE_NS))


def test_two_lines_comments_names_and_alpha_5() -> None:
    # T0007 is alpha-5 for 270007: I and O are left out of the alphabet
    alpha = "\n".join(checksummed(f"{line[:2]}T0007{line[7:]}") for line in tle(1).splitlines())
    text = f"# a comment\n\n{alpha}\nSOME NAME  \n{tle(42)}\n{tle(3)}\n"
    catalogue = parse_catalogue(text, "tle")
    assert catalogue.satno.tolist() == [3, 42, 270_007]
    assert catalogue.names == ["3", "SOME NAME", "270007"]
    assert catalogue.refused == []


@pytest.mark.parametrize("fmt", ["csv", "json", "xml"])
def test_nine_digit_numbers_come_by_omm(fmt: str) -> None:
    records = omm_records()
    records[0]["NORAD_CAT_ID"] = 799_501_234
    write = {"csv": as_csv, "json": as_json, "xml": as_xml}[fmt]
    catalogue = parse_catalogue(write(records), fmt)
    assert catalogue.satno.tolist() == [9, 799_501_234]
    assert catalogue.index(np.array([799_501_234, 9, 5])).tolist() == [1, 0, -1]


@pytest.mark.parametrize(
    "epoch", ["2026-04-01T00:00:00", "2026-04-01T00:00:00Z", "2026-04-01T00:00:00.000000000"]
)
def test_omm_epochs_with_and_without_fraction(epoch: str) -> None:
    records = omm_records()
    records[0]["EPOCH"] = epoch
    assert epoch_ns(parse_catalogue(as_json(records), "json").satrecs[0]) == EPOCH_NS


# --- refusals -----------------------------------------------------------------------------


def damaged(line: int, column: int, text: str, *, checksum: bool = True) -> str:
    """A good object with characters replaced, the checksum made right again or not."""
    lines = tle(1).splitlines()
    old = lines[line]
    new = old[:column] + text + old[column + len(text) :]
    lines[line] = checksummed(new) if checksum else new
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "satno", "reason"),
    [
        (damaged(1, 30, "7", checksum=False), 1, "checksum of line 2"),
        (damaged(1, 2, "00002"), 1, "lines of two objects"),
        (damaged(1, 2, "00002").splitlines()[0], 1, "element line 1 without"),
        (damaged(1, 2, "00002").splitlines()[1], 2, "element line 2 without"),
        (tle(1)[:-20], 1, "49 characters"),
        (damaged(0, 62, "4"), 1, "SGP4-XP"),
        (tle(1).replace(" 00001", " I0001"), 0, "no catalogue number"),
        (tle(0), 0, "no catalogue number"),
        (tle(1, rev_per_day=16.9), 1, "radius 64"),
        (tle(1, rev_per_day=0.05), 1, "radius 31"),
        ("\n".join(verification_set()[-3].lines), 33334, "SGP4 error 3"),
    ],
)  # fmt: skip
def test_what_cannot_be_trusted_or_used_is_refused_and_listed(
    text: str, satno: int, reason: str
) -> None:
    ((refused, why),) = reasons(text)
    assert (refused, reason in why) == (satno, True), (refused, why)


def test_a_line_without_its_checksum_digit_is_taken() -> None:
    text = "\n".join(line[:68] for line in tle(1).splitlines())
    assert reasons(text) == []


@pytest.mark.parametrize("newest_first", [True, False])
def test_of_duplicates_the_newest_epoch_stays(newest_first: bool) -> None:
    old, new = tle(1, rev_per_day=13.0), tle(1, rev_per_day=14.0, epoch_days=EPOCH_DAYS + 0.5)
    text = "\n".join([new, old] if newest_first else [old, new])
    catalogue = parse_catalogue(text, "tle")
    assert catalogue.n == 1
    assert catalogue.mean_motion[0] == pytest.approx(14.0)
    ((satno, why),) = catalogue.refused
    assert (satno, "duplicate" in why) == (1, True)


def test_an_unusable_newer_set_does_not_displace_a_usable_one() -> None:
    catalogue = parse_catalogue(
        "\n".join([tle(1), tle(1, rev_per_day=16.9, epoch_days=EPOCH_DAYS + 0.5)]), "tle"
    )
    assert catalogue.mean_motion[0] == pytest.approx(15.0)
    assert "radius" in catalogue.refused[0][1]


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("EPOCH", None, "not an OMM record"),
        ("MEAN_MOTION", "fast", "not an OMM record"),
        ("NORAD_CAT_ID", 1_000_000_000, "no catalogue number"),
        ("EPHEMERIS_TYPE", 4, "SGP4-XP"),
        ("BSTAR", ..., "field BSTAR is missing"),
    ],
)
def test_bad_omm_records_are_refused_one_by_one(field: str, value: object, reason: str) -> None:
    records = omm_records()
    if value is ...:
        del records[0][field]
    else:
        records[0][field] = value
    catalogue = parse_catalogue(as_json(records), "json")
    assert catalogue.satno.tolist() == [9]
    ((_, why),) = catalogue.refused
    assert reason in why


@pytest.mark.parametrize(
    ("text", "fmt", "why"),
    [
        ("", "tle", "no usable object"),
        ("just\nnames\n", "tle", "no usable object"),
        (tle(1, rev_per_day=16.9), "tle", "object 1: radius"),
        ("{", "json", "not OMM json"),
        ("[1, 2]", "json", "not OMM json"),
        ("<ndm>", "xml", "not OMM xml"),
        ("<ndm><segment/></ndm>", "xml", "not OMM xml"),
        ("NORAD_CAT_ID,EPOCH\n", "csv", "no usable object"),
        (GOOD, "sp3", "unknown format 'sp3'"),
    ],
)
def test_nothing_usable_is_one_clear_error(text: str, fmt: str, why: str) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        parse_catalogue(text, fmt)
    assert str(caught.value).startswith("cannot ")
    assert why in str(caught.value)
