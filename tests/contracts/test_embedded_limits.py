"""The embedded broker at its limits: retention, a full map, damage, wrong use, stored batches."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sda_pipeline.broker.connect import check_url, open_consumer, open_producer
from sda_pipeline.broker.port import OffsetOutOfRange, OutMessage
from sda_pipeline.broker.stored_batch import chunks, decode, encode, partition_of
from sda_pipeline.clock import ManualClock
from sda_pipeline.errors import BrokerFull, InvalidConfiguration, StateCorrupt, Unreachable
from sda_pipeline.limits import MIB, SECOND_NS
from tests.contracts.broker_talk import TOPIC, check_columns, drain, messages
from tests.contracts.embedded_harness import HOUR_S, Embedded


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Embedded]:
    embedded = Embedded(tmp_path / "broker")
    yield embedded
    embedded.close()


# --- retention and a full map ---------------------------------------------------------------


def test_only_committed_and_old_batches_are_deleted(broker: Embedded) -> None:
    clock = ManualClock(wall_ns=10**18)
    producer, consumer = broker.producer(clock), broker.consumer()
    for first in range(0, 50, 10):
        producer.produce(TOPIC, messages(10, first))
        clock.advance(600 * SECOND_NS)  # ages now: 3000, 2400, 1800, 1200, 600 s
    assert consumer.log_start(0) == 0
    clock.advance(1400 * SECOND_NS)  # 4400, 3800, 3200 ...: two are old
    producer.produce(TOPIC, messages(10, 50))
    assert consumer.log_start(0) == 0  # nobody has committed
    consumer.commit({0: 25})
    clock.advance(int(4 * HOUR_S) * SECOND_NS)  # all are old now, two lie below 25
    producer.produce(TOPIC, messages(10, 60))
    assert consumer.log_start(0) == 20
    broker.consumer(group="slow").commit({0: 3})
    consumer.commit({0: 60})
    clock.advance(60 * SECOND_NS)
    producer.produce(TOPIC, messages(10, 70))
    assert consumer.log_start(0) == 20  # the slowest group counts
    check = broker.consumer(group="fresh")
    check_columns(drain(check, 60), messages(60, 20))
    consumer.seek(0, 19)
    with pytest.raises(OffsetOutOfRange, match="it holds offsets 20 to 80"):
        consumer.consume(10, 1000, 0.0)


def test_young_batches_stay(broker: Embedded) -> None:
    clock = ManualClock(wall_ns=10**18)
    producer, consumer = broker.producer(clock), broker.consumer()
    producer.produce(TOPIC, messages(10))
    consumer.commit({0: 10})
    clock.advance(3500 * SECOND_NS)
    producer.produce(TOPIC, messages(10, 10))
    assert consumer.log_start(0) == 0
    clock.advance(200 * SECOND_NS)
    producer.produce(TOPIC, messages(10, 20))
    assert consumer.log_start(0) == 10


def test_a_commit_of_an_earlier_generation_deletes_nothing(broker: Embedded) -> None:
    clock = ManualClock(wall_ns=10**18)
    producer, consumer = broker.producer(clock), broker.consumer()
    producer.produce(TOPIC, messages(10))
    consumer.commit({0: 10})
    producer.recreate_topic(TOPIC)
    producer.produce(TOPIC, messages(10))
    clock.advance(int(2 * HOUR_S) * SECOND_NS)
    producer.produce(TOPIC, messages(10))
    assert consumer.log_start(0) == 0


def test_a_full_broker_is_transient_and_recovers(tmp_path: Path) -> None:
    broker = Embedded(tmp_path / "broker", map_size=1 * MIB)
    clock = ManualClock(wall_ns=10**18)
    producer, consumer = broker.producer(clock), broker.consumer()
    written = 0
    with pytest.raises(BrokerFull, match=r"full \(1 MiB\); it empties"):  # noqa: PT012
        while written < 10_000:
            producer.produce(TOPIC, messages(10, written, size=1000))
            written += 10
    assert 500 < written < 1000
    with pytest.raises(BrokerFull):
        producer.produce(TOPIC, messages(10, written, size=1000))
    assert drain(consumer, written).values[-1][:8] == b"%08d" % (written - 1)  # still readable
    consumer.commit({0: written})
    with pytest.raises(BrokerFull):  # consumed, but not old
        producer.produce(TOPIC, messages(10, written, size=1000))
    clock.advance(int(2 * HOUR_S) * SECOND_NS)
    for first in range(written, 2 * written, 10):
        producer.produce(TOPIC, messages(10, first, size=1000))
        check_columns(drain(consumer, 10), messages(10, first, size=1000))
        consumer.commit({0: first + 10})
        clock.advance(int(2 * HOUR_S) * SECOND_NS)
    broker.close()


# --- damage and wrong use -------------------------------------------------------------------


def test_a_flipped_byte_in_a_stored_batch_is_refused(broker: Embedded) -> None:
    broker.producer().produce(TOPIC, messages(10))
    broker.close()
    path = broker.directory / "messages" / "data.mdb"
    data = path.read_bytes()
    at = data.index(messages(10)[4].value)
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    again = Embedded(broker.directory)
    with pytest.raises(StateCorrupt, match=r"partition 0 offset 0: its CRC does not match; move"):
        again.consumer().consume(10, 1000, 0.0)
    again.close()


def test_a_flipped_byte_of_an_encoded_batch_never_passes() -> None:
    sent = [OutMessage(b"key", b"value", 123, (("name", b"x"),)), OutMessage(b"", b"", -1)]
    data = encode(sent, 77)
    good = decode(5, memoryview(data), "here")
    assert (good.keys, good.values, good.timestamps.tolist()) == (
        [b"key", b""], [b"value", b""], [123, -1],
    )  # fmt: skip
    assert good.headers == [(("name", b"x"),), ()]
    assert (good.base, good.end) == (5, 7)
    for at in range(len(data)):
        if at in {6, 7}:
            continue  # reserved, but covered by the CRC all the same
        flipped = bytearray(data)
        flipped[at] ^= 4
        with pytest.raises(StateCorrupt, match="read here"):
            decode(5, memoryview(flipped), "here")
    for length in range(len(data)):
        with pytest.raises(StateCorrupt):
            decode(5, memoryview(data[:length]), "here")


def test_a_damaged_environment_has_a_clear_line(broker: Embedded) -> None:
    broker.producer().produce(TOPIC, messages(10))
    broker.close()
    path = broker.directory / "messages" / "data.mdb"
    path.write_bytes(b"no database" * 5000)
    with pytest.raises(StateCorrupt, match=r"cannot open the LMDB environment .*; move the direct"):
        open_consumer(f"embedded:{broker.directory}", TOPIC, "g", 1)


def test_a_newer_format_is_refused(broker: Embedded) -> None:
    broker.consumer().close()
    with lmdb.open(str(broker.directory / "messages")) as env, env.begin(write=True) as txn:
        txn.put(b"f", b"2")
    with pytest.raises(InvalidConfiguration, match="use the release that wrote it"):
        broker.consumer()


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broker").write_text("")
    with pytest.raises(Unreachable, match="cannot open the broker"):
        open_producer(f"embedded:{tmp_path / 'broker'}")


@pytest.mark.parametrize("url", ["", "embedded:", "embeded:/x", "kafka:/host", "/broker"])
def test_a_wrong_url_is_one_clear_line(url: str) -> None:
    with pytest.raises(InvalidConfiguration, match="write embedded:DIRECTORY"):
        check_url(url)


# --- batches --------------------------------------------------------------------------------


def test_the_partition_hash_is_pinned() -> None:
    keys = [b"", b"5", b"25544", b"999999999"]
    assert [partition_of(key, 7) for key in keys] == [zlib.crc32(key) % 7 for key in keys]
    assert partition_of(b"25544", 1 << 32) == 1644704849  # a change would reorder live topics


@given(
    st.lists(st.integers(0, 30), max_size=30), st.integers(1, 8), st.integers(1, 60)
)  # value sizes, bounds
def test_chunks_cover_everything_in_order(sizes: list[int], most: int, size: int) -> None:
    sent = [OutMessage(b"k", bytes(length), n) for n, length in enumerate(sizes)]
    parts = list(chunks(sent, most, size))
    assert [message for part in parts for message in part] == sent
    for part in parts:
        assert 1 <= len(part) <= most
        assert len(part) == 1 or sum(len(message.value) for message in part) <= size
