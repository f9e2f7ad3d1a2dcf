"""The plan of a run, spelled out for the repository's topology, and its rules for any other."""

from __future__ import annotations

import pytest

from sda_pipeline.ring.board import Board, board_words
from sda_pipeline.topology import Topology
from supervisor import plan
from supervisor.picture import as_mermaid, as_text
from tests.unit.topology_rig import changed, repository_topology

SOURCES = {"radar", "optical", "isl"}
UPSTREAM = SOURCES | {"normalize", "prioritize"}


@pytest.fixture
def topology() -> Topology:
    return repository_topology()


def test_an_operator_waits_for_the_owners_of_what_it_reads(topology: Topology) -> None:
    waits = plan.waits_for(topology)
    assert waits["subscriber"] == waits["dlq-sink"] == frozenset()
    assert waits["prioritize"] == waits["normalize"] == frozenset()
    assert waits["alert-sink"] == {"subscriber"}
    assert waits["correlator"] == {"alert-sink"}
    assert waits["replicator"] == {"correlator"}
    for source in SOURCES:
        assert waits[source] == {"normalize", "prioritize", "correlator", "dlq-sink"}


def test_the_start_order_satisfies_every_wait(topology: Topology) -> None:
    waits, started = plan.waits_for(topology), set[str]()
    for name in topology.start_order():
        assert waits[name] <= started, name
        started.add(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("radar", {"radar"}),
        ("normalize", SOURCES | {"normalize"}),
        ("correlator", UPSTREAM | {"correlator"}),
        ("alert-sink", UPSTREAM | {"correlator", "alert-sink"}),
        ("subscriber", UPSTREAM | {"correlator", "alert-sink", "subscriber"}),
        ("dlq-sink", SOURCES | {"dlq-sink"}),
        ("replicator", {"replicator"}),
    ],
)
def test_a_rewind_takes_the_operator_and_everything_upstream(
    topology: Topology, name: str, expected: set[str]
) -> None:
    assert plan.rewound_with(topology, name) == expected


def test_a_second_rewind_takes_the_readers_too(topology: Topology) -> None:
    wide = plan.rewound_with_readers(topology, "normalize")
    assert wide == UPSTREAM
    assert plan.rewound_with_readers(topology, "radar") == SOURCES | {"normalize", "dlq-sink"}
    assert plan.rewound_with_readers(topology, "subscriber") == frozenset()


def test_new_rings_only_between_stopped_operators(topology: Topology) -> None:
    stopped = plan.rewound_with(topology, "correlator")
    assert set(plan.rewired(topology, stopped)) == {
        "radar->normalize", "optical->normalize", "isl->normalize",
        "normalize->prioritize", "prioritize->correlator",
    }  # fmt: skip
    assert plan.rewired(topology, {"radar"}) == ()
    assert plan.rewired(topology, plan.rewound_with(topology, "dlq-sink")) == (
        "radar->dlq-sink", "optical->dlq-sink", "isl->dlq-sink"
    )  # fmt: skip


def test_words_of_the_stopped_are_put_back_and_no_others(topology: Topology) -> None:
    words = board_words(topology.sources, topology.names)
    board = Board.create(words)
    for number, word in enumerate(words, 1):
        board.set(word, number)
    before = board.snapshot()
    board.reset(plan.rewound_words(topology, plan.rewound_with(topology, "correlator")))
    moved = {word for word, value in board.snapshot().items() if value != before[word]}
    own = {"applied", "log_end", "lag", "log_id", "watermark", "ended", "reported"}
    own |= {"log_first", "missing", "horizon_lost"}
    assert moved == {f"{s}.{word}" for s in SOURCES for word in own} | {
        "outbox_end", "dirty", "hold"
    }  # fmt: skip
    assert board.get("radar.lag") == 2**64 - 1
    board.close()


def test_the_epoch_survives_a_rewind(topology: Topology) -> None:
    # A correlator that recovers an older store must rise above the highest epoch ever seen here.
    assert "epoch" not in plan.rewound_words(topology, topology.names)


def test_a_newborn_says_nothing_of_its_predecessor(topology: Topology) -> None:
    assert set(plan.newborn_words(topology, "radar")) == {
        "radar.heartbeat", "radar.step", "radar.step_since", "radar.ready", "radar.lag"
    }  # fmt: skip
    assert "correlator.lag" not in plan.newborn_words(topology, "correlator")


def test_draining_follows_the_flow(topology: Topology) -> None:
    assert plan.drain_stages(topology) == (
        ("radar", "optical", "isl"), ("normalize", "dlq-sink"), ("prioritize",), ("correlator",),
        ("alert-sink", "replicator"), ("subscriber",),
    )  # fmt: skip


def test_a_single_source_is_a_topology_too() -> None:
    text = ("inputs: [radar, optical, isl]", "inputs: [radar]")
    removed = [
        ("  - name: optical\n    kind: optical-source\n    topic: sda.obs.optical\n", ""),
        ("  - name: isl\n    kind: isl-source\n    topic: sda.obs.isl\n", ""),
        ("  optical->normalize:     {capacity: 16 MiB, policy: block}\n", ""),
        ("  isl->normalize:         {capacity: 16 MiB, policy: block}\n", ""),
        ("  optical->dlq-sink:      {capacity: 8 MiB, policy: block}\n", ""),
        ("  isl->dlq-sink:          {capacity: 8 MiB, policy: block}\n", ""),
    ]
    topology = changed(text, text, *removed)
    assert topology.sources == ("radar",)
    assert plan.drain_stages(topology)[0] == ("radar",)
    assert "[normalize]" in as_text(topology)


def test_the_picture_shows_every_operator_edge_and_topic(topology: Topology) -> None:
    for text in (as_text(topology), as_mermaid(topology)):
        for name in topology.names:
            assert name in text
        assert "sda.obs.optical" in text
    for edge in topology.edges:
        assert edge.name in as_text(topology)
