"""What is committed beside an offset, and what is made of what others committed."""

from __future__ import annotations

import pytest

from sda_pipeline.broker.kafka_group import NO_EPOCH, Committed, read_committed


def test_it_is_read_as_it_was_written() -> None:
    known = Committed(24, "aB-_9x", 20, 3)
    assert read_committed(24, known.metadata) == known


@pytest.mark.parametrize(
    ("metadata", "life"),
    [
        ("", ""),  # by the usual tools
        ("aB-_9x", "aB-_9x"),  # by an earlier release
        ("host:1", ""),
        ("a:b:c", ""),
        ("a:1:2:3", ""),
    ],
)
def test_of_others_only_what_is_sure(metadata: str, life: str) -> None:
    assert read_committed(24, metadata) == Committed(24, life, 24, NO_EPOCH)
