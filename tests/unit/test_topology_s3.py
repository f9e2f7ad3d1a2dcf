"""``checkpoint.s3`` of a topology: its defaults, its faults, and that no secret gets into it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sda_pipeline.errors import InvalidConfiguration
from sda_pipeline.topology import S3Settings, from_resolved_json, to_resolved_json
from sda_pipeline.topology_parse import parse_topology
from tests.unit.topology_rig import FILE, changed, repository_topology

CADENCE = "  every_s: 30 "


def with_s3(*lines: str) -> tuple[str, str]:
    section = "".join(f"    {line}\n" for line in lines)
    return (CADENCE, f"  s3:\n{section}{CADENCE}")


def faults_of(*lines: str) -> tuple[str, ...]:
    text = FILE.read_text().replace(*with_s3(*lines))
    with pytest.raises(InvalidConfiguration) as caught:
        parse_topology(text.encode(), Path("t.yaml"))
    return caught.value.faults


def test_without_the_section_snapshots_stay_here() -> None:
    assert repository_topology().s3 is None


def test_only_the_bucket_is_required() -> None:
    assert changed(with_s3("bucket: sda-1")).s3 == S3Settings("sda-1")
    (fault,) = faults_of("prefix: here")
    assert "checkpoint.s3.bucket: is required" in fault
    assert fault.startswith("t.yaml:")


def test_every_key_means_what_is_written_and_survives_resolving() -> None:
    topology = changed(with_s3(
        "bucket: b-1", "prefix: a/b", "endpoint: https://s3.example.org:9000", "region: eu-1",
        "keep: 5", "recovery_wait_s: 7",
    ))  # fmt: skip
    wanted = S3Settings("b-1", "a/b", "https://s3.example.org:9000", "eu-1", 5, 7.0)
    assert topology.s3 == wanted
    assert from_resolved_json(to_resolved_json(topology)) == topology


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("bucket: B", "checkpoint.s3.bucket: 'B' does not match"),
        ("prefix: /a", "checkpoint.s3.prefix: '/a' does not match"),
        ("prefix: a//b", "checkpoint.s3.prefix: 'a//b' does not match"),
        ("endpoint: example.org", "checkpoint.s3.endpoint: 'example.org' does not match"),
        ("endpoint: http://user:pw@example.org", "checkpoint.s3.endpoint"),
        ("endpoint: https://example.org/?key=1", "checkpoint.s3.endpoint"),
        ("keep: 0", "checkpoint.s3.keep: 0 is not within 1 and 1000"),
        ("recovery_wait_s: 1000", "checkpoint.s3.recovery_wait_s: 1000 is not within"),
        ("secret_key: x", "checkpoint.s3.secret_key: is not known here"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(line: str, said: str) -> None:
    lines = [line] if line.startswith("bucket") else ["bucket: sda-1", line]
    (fault,) = faults_of(*lines)
    assert said in fault
    place = fault.split(" ")[0].split(":")
    assert (place[0], place[1].isdigit(), place[2].isdigit()) == ("t.yaml", True, True)
