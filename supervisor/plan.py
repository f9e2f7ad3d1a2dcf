"""The plan of a run: who waits for whom, who is rewound with whom, in which order it drains. Pure.

Everything here follows from the topology; what happens when is in tree.py.
"""

from __future__ import annotations

from collections.abc import Collection

from sda_pipeline.ring.board import positions_of
from sda_pipeline.runtime.in_flight import POSITION, ROW, SOURCE
from sda_pipeline.topology import SOURCE_KINDS, Topology

_FORWARDERS = ("normalize", "prioritize")  # own no truth and read no position from the board
_PROGRESS = {"alert-sink": "sink_pos", "subscriber": "sub_pos", "replicator": "snapshot_seq"}
_FIRST_STAGE = 0

# Words an operator says about its own life; the supervisor puts them back between two lives.
_LIFE_WORDS = ("heartbeat", "step", "step_since", "ready")
IN_FLIGHT_WORDS = (SOURCE, POSITION, ROW)


def waits_for(topology: Topology) -> dict[str, frozenset[str]]:
    """For each operator those that must be ready before it is started.

    An operator reads at its start where those downstream of it stand, so it waits for the nearest
    one that owns truth, on every way down, and for the forwarders in between. Forwarders
    themselves read nothing and wait for nobody. The replicator reads the correlator's store.
    """
    waits = {name: _nearest_owners(topology, name) for name in topology.names}
    for name in topology.names:
        kind = topology.kind_of(name)
        if kind in _FORWARDERS:
            waits[name] = frozenset()
        elif kind == "replicator":
            waits[name] = frozenset(
                other for other in topology.names if topology.kind_of(other) == "correlator"
            )
    return waits


def _nearest_owners(topology: Topology, name: str) -> frozenset[str]:
    found: set[str] = set()
    ahead = _targets(topology, name)
    while ahead:
        target = ahead.pop()
        found.add(target)
        if topology.kind_of(target) in _FORWARDERS:
            ahead += _targets(topology, target)
    return frozenset(found)


def _targets(topology: Topology, name: str) -> list[str]:
    return [edge.target for edge in topology.edges if edge.source == name]


def rewound_with(topology: Topology, name: str) -> frozenset[str]:
    """The operator and everything upstream of it."""
    found = {name}
    size = 0
    while size != len(found):
        size = len(found)
        found |= {edge.source for edge in topology.edges if edge.target in found}
    return frozenset(found)


def rewound_with_readers(topology: Topology, name: str) -> frozenset[str]:
    """The wider set: the readers of the operator as well, and everything upstream of them."""
    readers = (rewound_with(topology, target) for target in _targets(topology, name))
    return frozenset().union(*readers)


def rewired(topology: Topology, stopped: Collection[str]) -> tuple[str, ...]:
    """Edges that get a new ring: those between two stopped operators.

    An edge from a stopped operator into a running one keeps its ring: what the running one has not
    released is still good, and it drops by position what is sent again.
    """
    return tuple(
        edge.name for edge in topology.edges if edge.source in stopped and edge.target in stopped
    )


def rewound_words(topology: Topology, stopped: Collection[str]) -> tuple[str, ...]:
    """Board words to put back while their writers are dead: where the stopped ones said they are.

    Not ``epoch``: it is no position but the highest epoch ever seen here, and a correlator that
    recovers an older store must rise above it. Nor the counts of recoveries.
    """
    return tuple(
        word
        for name in topology.names
        if name in stopped
        for word in positions_of(name, topology.kind_of(name), topology.sources)
        if word != "epoch" and not word.startswith("recovered_")
    )


def newborn_words(topology: Topology, name: str) -> tuple[str, ...]:
    """Board words to put back before each life: nothing of the last one passes for the next.

    A source's lag is what the broker said to its predecessor; until it asks anew it is unknown.
    """
    own = tuple(f"{name}.{word}" for word in _LIFE_WORDS)
    return (*own, f"{name}.lag") if topology.kind_of(name) in SOURCE_KINDS else own


def drain_stages(topology: Topology) -> tuple[tuple[str, ...], ...]:
    """Stages in flow order: all of one are asked to finish together, and waited for.

    A stage is the longest way from a source. The replicator stops beside the correlator's reader:
    its last look at the store comes after the last commit.
    """
    stage = dict.fromkeys(topology.names, _FIRST_STAGE)
    for _ in topology.names:
        for edge in topology.edges:
            stage[edge.target] = max(stage[edge.target], stage[edge.source] + 1)
    for name in topology.names:
        if topology.kind_of(name) == "replicator":
            stage[name] = 1 + max(
                stage[other] for other in stage if topology.kind_of(other) == "correlator"
            )
    return tuple(
        tuple(name for name in topology.names if stage[name] == number)
        for number in sorted(set(stage.values()))
    )


def progress_words(topology: Topology, name: str) -> tuple[str, ...]:
    """Board words of which at least one grows when an operator has done its work."""
    kind = topology.kind_of(name)
    if kind in SOURCE_KINDS:
        return (f"{name}.log_end",)
    if kind in _PROGRESS:
        return (_PROGRESS[kind],)
    word = "dlq_done" if kind == "dlq-sink" else "applied"  # forwarders: what the correlator got
    return tuple(f"{source}.{word}" for source in topology.sources)
