"""UUID texts against the standard library's."""

from __future__ import annotations

import struct
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from sda_pipeline.records.rows import uuid_text
from sda_pipeline.records.uuids import parse_uuids


@settings(deadline=None)
@given(st.lists(st.uuids(), max_size=6), st.randoms(use_true_random=False))
def test_uuids_of_any_case(uuids: list[UUID], pick: Any) -> None:
    texts = ["".join(pick.choice((c.upper(), c)) for c in str(uuid)) for uuid in uuids]
    halves, good = parse_uuids(texts)
    assert good.all()
    assert halves.tolist() == [list(struct.unpack(">QQ", uuid.bytes)) for uuid in uuids]


@settings(deadline=None)
@given(st.lists(st.text("0aF-\n g１", min_size=35, max_size=37) | st.uuids().map(str), max_size=6))
def test_uuids_equal_the_standard_library(texts: list[str]) -> None:
    halves, good = parse_uuids(texts)
    for text, half, fine in zip(texts, halves, good, strict=True):
        try:
            expected = text.isascii() and str(UUID(text)) == text.lower()
        except ValueError:
            expected = False
        assert fine == expected
        assert not fine or uuid_text(half) == text.lower()
