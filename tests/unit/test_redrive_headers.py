"""Headers of re-injected messages, honest and forged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.core.batch import reject_at
from sda_pipeline.broker.port import Batch, Headers
from sda_pipeline.dlq.redrive_headers import read_headers, write_headers
from sda_pipeline.records.rejects import pack_rejects, unpack_rejects
from sda_pipeline.vocabulary import ErrorKind

ROOT = "0123456789abcdef" * 2


@given(st.text("0123456789abcdef", min_size=32, max_size=32), st.integers(0, 999_999))
def test_what_is_written_is_read_back(root: str, attempts: int) -> None:
    assert read_headers((("other", b"x"), *write_headers(root, attempts))) == (root, attempts)


@pytest.mark.parametrize(
    ("root", "attempts", "read"),
    [
        (ROOT.encode(), b"9" * 5000, (ROOT, 0)),
        (ROOT.encode(), b"-1", (ROOT, 0)),
        (ROOT.encode(), "²".encode(), (ROOT, 0)),
        (ROOT.encode(), b"3\n", (ROOT, 0)),
        (b"", b"7", ("", 0)),
        (ROOT.upper().encode(), b"7", ("", 0)),
        (b"\xff" * 32, b"7", ("", 0)),
        (b"a" * 60_000, b"1", ("", 0)),
    ],
)
def test_what_nobody_of_us_writes_says_nothing(
    root: bytes, attempts: bytes, read: tuple[str, int]
) -> None:
    assert read_headers((("dlq-id", root), ("dlq-attempts", attempts))) == read


@given(st.lists(st.tuples(st.sampled_from(["dlq-id", "dlq-attempts", "x"]), st.binary())))
def test_any_headers_give_a_reject_that_can_be_logged(headers: list[tuple[str, bytes]]) -> None:
    found: Headers = tuple(headers)
    one = np.zeros(1, np.int64)
    batch = Batch(one.astype(np.int32), one, one, [b"k"], [b"v"], [found])
    reject = reject_at(batch, 0, 0, ErrorKind.DESERIALIZATION, "not JSON")
    assert unpack_rejects(pack_rejects([reject])) == [reject]


def test_no_headers() -> None:
    assert read_headers(()) == ("", 0)
