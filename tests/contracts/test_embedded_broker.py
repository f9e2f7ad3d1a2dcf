"""The embedded broker: the contract suite, processes that share it or are killed, waiting."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sda_pipeline.broker.connect import open_consumer, open_producer
from sda_pipeline.broker.port import OutMessage
from sda_pipeline.broker.storage import open_storage
from sda_pipeline.clock import ManualClock
from sda_pipeline.limits import MIB, SECOND_NS
from tests.contracts.broker_suite import BrokerSuite
from tests.contracts.broker_talk import TOPIC, check_columns, drain, messages
from tests.contracts.embedded_harness import Embedded


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Embedded]:
    embedded = Embedded(tmp_path / "broker")
    yield embedded
    embedded.close()


class TestEmbeddedContract(BrokerSuite):
    """Every test of the suite, on LMDB."""


# --- durability and sharing -----------------------------------------------------------------


def test_messages_and_offsets_survive_a_restart(broker: Embedded) -> None:
    broker.producer().produce(TOPIC, messages(20))
    broker.consumer().commit({0: 5})
    broker.close()
    again = Embedded(broker.directory)
    consumer = again.consumer()
    check_columns(drain(consumer, 15), messages(15, 5))
    again.close()


def test_messages_and_offsets_live_apart(broker: Embedded) -> None:
    broker.consumer()
    assert sorted(path.name for path in broker.directory.iterdir()) == ["messages", "offsets"]


def test_producers_in_other_processes(broker: Embedded) -> None:
    code = (
        "import sys\n"
        "from sda_pipeline.broker.connect import open_producer\n"
        "from tests.contracts.broker_talk import TOPIC, messages\n"
        "producer = open_producer(f'embedded:{sys.argv[1]}')\n"
        "for n in range(20):\n"
        "    producer.produce(TOPIC, messages(10, int(sys.argv[2]) + n * 10))\n"
    )
    consumer = broker.consumer()
    others = [
        subprocess.Popen([sys.executable, "-c", code, str(broker.directory), str(first)])
        for first in (0, 1000)
    ]
    batch = drain(consumer, 400)
    assert [other.wait() for other in others] == [0, 0]
    assert batch.offsets.tolist() == list(range(400))
    for first in (0, 1000):
        own = [value for value in batch.values if (int(value[:8]) >= 1000) == (first >= 1000)]
        assert own == [message.value for message in messages(200, first)]


def test_a_producer_killed_inside_its_transaction(broker: Embedded) -> None:
    code = (
        "import pathlib, sys, time\n"
        "from sda_pipeline.broker.storage import open_storage\n"
        "storage = open_storage(pathlib.Path(sys.argv[1]), 1 << 26)\n"
        "with storage._writing('die') as txn:\n"
        "    for n in range(50):\n"
        "        txn.put(b'b' + b'%016d' % n, bytes(9000))\n"
        "    print('inside', flush=True)\n"
        "    time.sleep(600)\n"
    )
    broker.producer().produce(TOPIC, messages(10))
    victim = subprocess.Popen(
        [sys.executable, "-c", code, str(broker.directory)], stdout=subprocess.PIPE, text=True
    )
    assert victim.stdout is not None
    with victim.stdout as output:
        assert output.readline() == "inside\n"
        victim.send_signal(signal.SIGKILL)
        assert victim.wait() == -signal.SIGKILL
    broker.producer().produce(TOPIC, messages(10, 10))  # the dead one's lock is taken over
    check_columns(drain(broker.consumer(), 20), messages(20))


def test_producers_killed_anywhere_leave_whole_batches(broker: Embedded) -> None:
    code = (
        "import sys\n"
        "from sda_pipeline.broker.connect import open_producer\n"
        "from tests.contracts.broker_talk import TOPIC, messages\n"
        "producer = open_producer(f'embedded:{sys.argv[1]}')\n"
        "print('on', flush=True)\n"
        "while True:\n"
        "    producer.produce(TOPIC, messages(10))\n"
    )
    consumer = broker.consumer()
    for kills in range(3):
        victim = subprocess.Popen(
            [sys.executable, "-c", code, str(broker.directory)], stdout=subprocess.PIPE
        )
        assert victim.stdout is not None
        with victim.stdout as output:
            output.readline()
            drain(consumer, 30 + 7 * kills, most=1)
            victim.kill()
            victim.wait()
        left = consumer.lag()[0]
        batch = drain(consumer, left) if left else None
        assert batch is None or consumer.lag() == {0: 0}
        consumer.seek(0, 0)
        everything = drain(consumer, consumer.lag()[0])
        assert everything.offsets.tolist() == list(range(len(everything.values)))
        expected = [message.value for message in messages(10)]
        assert everything.values == expected * (len(everything.values) // 10)


def test_one_process_may_open_a_broker_many_times(broker: Embedded) -> None:
    url = f"embedded:{broker.directory}"
    producer = open_producer(url)
    consumers = [open_consumer(url, TOPIC, f"g{n}", 1) for n in range(3)]
    producer.produce(TOPIC, messages(5))
    producer.close()
    for consumer in consumers:
        check_columns(drain(consumer, 5), messages(5))
        consumer.close()
    storage = open_storage(broker.directory, MIB)
    assert storage.users == 1  # all the others are gone
    storage.close()


# --- waiting --------------------------------------------------------------------------------


class CountingClock(ManualClock):
    """Notes every sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.sleeps: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        super().sleep(seconds)


def test_waiting_sleeps_in_small_steps_until_the_timeout(broker: Embedded) -> None:
    clock = CountingClock()
    assert broker.consumer(clock=clock).consume(10, 1000, 0.052).values == []
    assert clock.monotonic_ns() == pytest.approx(0.052 * SECOND_NS)
    assert len(clock.sleeps) == 11
    assert max(clock.sleeps) <= 0.010


def test_nothing_is_waited_for_when_messages_are_there(broker: Embedded) -> None:
    clock = CountingClock()
    broker.producer().produce(TOPIC, messages(3))
    consumer = broker.consumer(clock=clock)
    assert len(consumer.consume(10, 1000, 5.0).values) == 3
    assert consumer.consume(10, 1000, 0.0).values == []
    assert clock.sleeps == []


# --- against a plain list -------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("produce"), st.lists(st.integers(0, 40), max_size=12), st.just(0)),
        st.tuples(st.just("consume"), st.integers(1, 9), st.integers(1, 90)),
        st.tuples(st.just("seek"), st.integers(0, 60), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=30, deadline=None)
@given(STEPS)
def test_consuming_is_slicing_a_list(steps: list[tuple[str, object, int]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        broker = Embedded(Path(directory))
        producer, consumer = broker.producer(), broker.consumer()
        model: list[OutMessage] = []
        position = 0
        for name, argument, size in steps:
            if name == "produce":
                assert isinstance(argument, list)
                first = len(model)
                new = [OutMessage(b"k", bytes(n), first + i) for i, n in enumerate(argument)]
                producer.produce(TOPIC, new)
                model += new
            elif name == "seek":
                assert isinstance(argument, int)
                position = min(argument, len(model))
                consumer.seek(0, position)
            else:
                assert isinstance(argument, int)
                batch = consumer.consume(argument, size, 0.0)
                expected: list[OutMessage] = []
                for message in model[position : position + argument]:
                    if expected and sum(len(m.value) + 1 for m in [*expected, message]) > size:
                        break
                    expected.append(message)
                check_columns(batch, expected)
                assert batch.offsets.tolist() == [*range(position, position + len(expected))]
                position += len(expected)
            assert consumer.lag() == {0: len(model) - position}
        broker.close()
