"""Where ``sda-reprocess`` sends on a real Kafka, and what it finds in front of that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sda_pipeline.broker.port import OutMessage
from sda_pipeline.cli.reprocess.broker_front import Front, look_ahead
from sda_pipeline.cli.reprocess.key_partition import leads_to
from sda_pipeline.cli.reprocess.pipeline_place import Place
from sda_pipeline.clock import SystemClock
from sda_pipeline.records.frames import Part
from sda_pipeline.topology import load_topology
from tests.contracts.kafka_harness import SETTINGS, Kafka
from tests.servers.kafka_server import KafkaServer
from tests.unit.redrive_rig import TOPIC, write_site

PARTITIONS, MESSAGES = 5, 200
KEYS = [b"", *(b"%d" % (1000 + k) for k in range(MESSAGES - 1))]


def test_keys_lead_where_it_says_and_what_waits_is_counted(
    kafka: KafkaServer, tmp_path: Path
) -> None:
    broker = Kafka(kafka)
    try:
        consumer = broker.consumer(TOPIC, partitions=PARTITIONS)
        producer = broker.producer()
        producer.produce(TOPIC, [OutMessage(key, b"{}", 1) for key in KEYS])
        producer.flush(30.0)
        partitions, keys = [], []
        while len(keys) < MESSAGES:
            batch = consumer.consume(MESSAGES, 1 << 20, 10.0)
            partitions += batch.partitions.tolist()
            keys += batch.keys
        assert [leads_to(broker.url, key, PARTITIONS) for key in keys] == partitions
        write_site(tmp_path, [])
        topology = load_topology(tmp_path / "topology.yaml")
        place = Place(replace(topology, broker=broker.url, kafka=SETTINGS))
        ends = {p: partitions.count(p) for p in range(PARTITIONS)}
        parts = [Part(p, consumer.generation(p), end - 1, 0) for p, end in ends.items()]
        clock = SystemClock()
        assert look_ahead(place, {"radar": parts}, clock) == {"radar": Front(PARTITIONS, 5)}
        anew = [part._replace(generation=part.generation ^ 1) for part in parts]
        assert look_ahead(place, {"radar": anew}, clock) == {"radar": Front(PARTITIONS, MESSAGES)}
    finally:
        broker.close()
