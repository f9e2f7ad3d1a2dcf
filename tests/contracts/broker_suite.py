"""What every broker behind the port must do. Not a test module: implementations subclass the suite.

A subclass gives a fixture ``broker`` (a ``Harness``); the tests are the same for all of them.
"""

from __future__ import annotations

import threading
from itertools import pairwise

import numpy as np
import pytest

from sda_pipeline.broker.port import (
    OffsetOutOfRange,
    OutMessage,
)
from sda_pipeline.limits import LIFE_BITS
from tests.contracts.broker_talk import LONG_S, TOPIC, Harness, check_columns, drain, messages


class BrokerSuite:
    """The contract of ``sda_pipeline.broker.port``."""

    def test_messages_come_as_they_were_produced(self, broker: Harness) -> None:
        consumer, producer = broker.consumer(), broker.producer()
        sent = messages(50)
        producer.produce(TOPIC, sent[:20])
        producer.produce(TOPIC, sent[20:])
        producer.flush(LONG_S)
        batch = drain(consumer, 50)
        check_columns(batch, sent)
        assert batch.headers == []
        assert batch.partitions.tolist() == [0] * 50
        assert all(a < b for a, b in pairwise(batch.offsets.tolist()))
        assert (batch.partitions.dtype, batch.offsets.dtype, batch.timestamps_ms.dtype) == (
            np.int32, np.int64, np.int64,
        )  # fmt: skip

    def test_empty_and_binary_values_and_early_times_survive(self, broker: Harness) -> None:
        consumer, producer = broker.consumer(), broker.producer()
        sent = [
            OutMessage(b"k", b"", 5),
            OutMessage(b"\xff\0", bytes(range(256)) * 300, 7),
            OutMessage(b"k", b"\0", 1),
        ]
        producer.produce(TOPIC, sent)
        producer.flush(LONG_S)
        check_columns(drain(consumer, 3), sent)

    def test_headers_survive(self, broker: Harness) -> None:
        consumer, producer = broker.consumer(), broker.producer()
        marked = OutMessage(b"k", b"v", 1, (("dlq-id", b"abc"), ("dlq-attempts", b"2")))
        producer.produce(TOPIC, [*messages(1), marked])
        producer.produce(TOPIC, messages(1))
        producer.flush(LONG_S)
        batch = drain(consumer, 3)
        assert [tuple(headers) for headers in batch.headers] == [(), marked.headers, ()]

    def test_an_empty_produce_is_nothing(self, broker: Harness) -> None:
        consumer, producer = broker.consumer(), broker.producer()
        producer.produce(TOPIC, [])
        producer.flush(LONG_S)
        assert consumer.consume(10, 1000, 0.0).values == []

    def test_a_key_keeps_its_partition_and_order(self, broker: Harness) -> None:
        consumer, producer = broker.consumer(partitions=3), broker.producer()
        sent = messages(300)
        for first in range(0, 300, 60):
            producer.produce(TOPIC, sent[first : first + 60])
        producer.flush(LONG_S)
        batch = drain(consumer, 300, most=37)
        assert sorted(batch.values) == sorted(message.value for message in sent)
        partition_of: dict[bytes, int] = {}
        newest: dict[int, int] = {}
        for key, value, partition, offset in zip(
            batch.keys, batch.values, batch.partitions.tolist(), batch.offsets.tolist(), strict=True
        ):
            assert partition_of.setdefault(key, partition) == partition
            assert offset > newest.get(partition, -1)
            newest[partition] = offset
            assert value
        assert set(partition_of.values()) == {0, 1, 2}
        for key, partition in partition_of.items():
            own = [v for k, v in zip(batch.keys, batch.values, strict=True) if k == key]
            assert own == [message.value for message in sent if message.key == key], partition

    @pytest.mark.parametrize("most", [1, 7, 64, 1000])
    def test_no_more_messages_than_asked_for(self, broker: Harness, most: int) -> None:
        consumer, producer = broker.consumer(), broker.producer()
        producer.produce(TOPIC, messages(100))
        producer.flush(LONG_S)
        got: list[bytes] = []
        while len(got) < 100:
            batch = consumer.consume(most, 1 << 20, LONG_S)
            assert 0 < len(batch.values) <= most
            got += batch.values
        assert got == [message.value for message in messages(100)]

    def test_no_more_bytes_than_asked_for(self, broker: Harness) -> None:
        consumer, producer = broker.consumer(), broker.producer()
        sent = [*messages(20, size=99), *messages(1, 20, size=5000), *messages(20, 21, size=99)]
        producer.produce(TOPIC, sent)
        producer.flush(LONG_S)
        got: list[bytes] = []
        while len(got) < 41:
            batch = consumer.consume(1000, 1000, LONG_S)
            size = sum(map(len, batch.keys)) + sum(map(len, batch.values))
            assert size <= 1000 or len(batch.values) == 1
            got += batch.values
        assert got == [message.value for message in sent]

    def test_an_empty_topic_times_out(self, broker: Harness) -> None:
        consumer = broker.consumer()
        batch = consumer.consume(10, 1000, 0.02)
        assert batch.values == batch.keys == batch.headers == []
        assert batch.offsets.shape == batch.partitions.shape == batch.timestamps_ms.shape == (0,)

    def test_a_waiting_consumer_gets_the_first_message(self, broker: Harness) -> None:
        consumer, producer = broker.consumer(), broker.producer()
        got: list[bytes] = []
        waiting = threading.Event()

        def wait() -> None:
            waiting.set()
            while not got:
                got.extend(consumer.consume(10, 1000, 0.5).values)

        thread = threading.Thread(target=wait)
        thread.start()
        waiting.wait(LONG_S)
        producer.produce(TOPIC, messages(1))
        producer.flush(LONG_S)
        thread.join(LONG_S)
        assert got == [messages(1)[0].value]

    def test_a_seek_reads_the_same_again(self, broker: Harness) -> None:
        consumer, producer = broker.consumer(), broker.producer()
        producer.produce(TOPIC, messages(30))
        producer.produce(TOPIC, messages(30, 30))
        producer.flush(LONG_S)
        first = drain(consumer, 60)
        for index in (59, 31, 30, 29, 0):
            consumer.seek(0, int(first.offsets[index]))
            again = drain(consumer, 60 - index, most=16)
            assert again.values == first.values[index:]
            assert again.offsets.tolist() == first.offsets[index:].tolist()

    def test_a_group_goes_on_where_it_committed(self, broker: Harness) -> None:
        consumer, producer = broker.consumer(), broker.producer()
        producer.produce(TOPIC, messages(30))
        producer.flush(LONG_S)
        batch = drain(consumer, 30)
        assert consumer.committed() == {}
        consumer.commit({0: int(batch.offsets[9]) + 1})
        consumer.close()
        same = broker.consumer()
        assert same.committed() == {0: int(batch.offsets[9]) + 1}
        assert drain(same, 20).values == batch.values[10:]
        other = broker.consumer(group="other")
        assert other.committed() == {}
        assert drain(other, 30).values == batch.values

    def test_lag_counts_what_was_not_consumed(self, broker: Harness) -> None:
        consumer, producer = broker.consumer(partitions=2), broker.producer()
        assert consumer.lag() == {0: 0, 1: 0}
        producer.produce(TOPIC, messages(40))
        producer.flush(LONG_S)
        assert sum(consumer.lag().values()) == 40
        left = 40
        while left:
            left -= len(consumer.consume(15, 1 << 20, LONG_S).values)
            assert sum(consumer.lag().values()) == left

    def test_what_was_unread_is_known_when_the_topic_is_gone(self, broker: Harness) -> None:
        consumer, producer = broker.consumer(), broker.producer()
        producer.produce(TOPIC, messages(40))
        producer.flush(LONG_S)
        assert consumer.unread(0) == 0, "nobody has asked for the lag"
        consumer.lag()
        left = 40 - len(consumer.consume(15, 1 << 20, LONG_S).values)
        assert consumer.unread(0) == left >= 25
        broker.recreate(TOPIC)
        producer.produce(TOPIC, messages(90, 100))
        producer.flush(LONG_S)
        consumer.lag()
        assert consumer.generation(0) >= 0
        assert consumer.unread(0) == left, "of the life that ended, not of the new one"
        consumer.seek(0, 0)
        assert consumer.unread(0) == 0

    def test_a_fresh_partition(self, broker: Harness) -> None:
        consumer = broker.consumer(partitions=2)
        assert consumer.partitions() == (0, 1)
        assert [consumer.log_start(partition) for partition in (0, 1)] == [0, 0]
        generations = [consumer.generation(partition) for partition in (0, 1, 0)]
        assert len({*generations}) == 1
        assert 0 <= generations[0] < 1 << LIFE_BITS

    def test_new_partitions_are_seen_and_read_from_the_start(self, broker: Harness) -> None:
        consumer, producer = broker.consumer(), broker.producer()
        producer.create_topic(TOPIC, 3)
        producer.create_topic(TOPIC, 2)  # never fewer than before
        producer.produce(TOPIC, messages(60))
        producer.flush(LONG_S)
        assert consumer.partitions() == (0, 1, 2)
        assert set(drain(consumer, 60).partitions.tolist()) == {0, 1, 2}
        assert broker.consumer(group="late").partitions() == (0, 1, 2)

    @pytest.mark.parametrize("offset", [31, 1_000_000])
    def test_a_position_that_was_never_written(self, broker: Harness, offset: int) -> None:
        consumer, producer = broker.consumer(), broker.producer()
        producer.produce(TOPIC, messages(30))
        producer.flush(LONG_S)
        consumer.seek(0, offset)
        assert consumer.lag() == {0: 1}, "nothing waits would mean that all is read"
        with pytest.raises(OffsetOutOfRange, match=rf"from offset {offset}: it holds .* to 30;"):
            consumer.consume(10, 1000, LONG_S)
        consumer.seek(0, 29)
        assert drain(consumer, 1).values == [messages(30)[29].value]

    def test_a_recreated_topic_is_another_generation(self, broker: Harness) -> None:
        consumer, producer = broker.consumer(), broker.producer()
        producer.produce(TOPIC, messages(30))
        producer.flush(LONG_S)
        drain(consumer, 30)
        consumer.commit({0: 30})
        before = consumer.generation(0)
        broker.recreate(TOPIC)
        producer.produce(TOPIC, messages(40, 100))
        producer.flush(LONG_S)
        assert consumer.generation(0) != before
        with pytest.raises(OffsetOutOfRange):  # 30 exists, but it is not the 30 that was meant
            consumer.consume(10, 1000, LONG_S)
        assert consumer.committed() == {}
        consumer.seek(0, consumer.log_start(0))
        check_columns(drain(consumer, 40), messages(40, 100))

    def test_a_recreated_topic_is_never_at_its_end_before_it_was_sought(
        self, broker: Harness
    ) -> None:
        consumer, producer = broker.consumer(), broker.producer()
        producer.produce(TOPIC, messages(30))
        producer.flush(LONG_S)
        drain(consumer, 30)
        assert consumer.lag() == {0: 0}
        broker.recreate(TOPIC)
        assert consumer.lag()[0] > 0
        with pytest.raises(OffsetOutOfRange):
            consumer.consume(10, 1000, LONG_S)
        assert consumer.lag()[0] > 0
        assert consumer.generation(0) >= 0
        consumer.seek(0, consumer.log_start(0))
        assert consumer.lag() == {0: 0}

    def test_topics_are_apart(self, broker: Harness) -> None:
        producer = broker.producer()
        names = ["a", "ab", "b"]
        consumers = [broker.consumer(topic=name) for name in names]
        for number, name in enumerate(names):
            producer.produce(name, messages(5, number * 100))
        producer.flush(LONG_S)
        for number, consumer in enumerate(consumers):
            check_columns(drain(consumer, 5), messages(5, number * 100))
            consumer.commit({0: number + 1})
        assert [consumer.committed() for consumer in consumers] == [{0: 1}, {0: 2}, {0: 3}]

    def test_two_producers(self, broker: Harness) -> None:
        consumer = broker.consumer()
        one, two = broker.producer(), broker.producer()
        for first in range(0, 60, 20):
            one.produce(TOPIC, messages(10, first))
            two.produce(TOPIC, messages(10, first + 10))
        one.flush(LONG_S)
        two.flush(LONG_S)
        assert sorted(drain(consumer, 60).values) == [m.value for m in messages(60)]
