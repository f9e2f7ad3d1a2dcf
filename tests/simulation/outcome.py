"""What must be true of a schedule, at every death and at its end: as tests/process/verdict.py.

Also: nothing acknowledged before it is durable, every reject in the DLQ once, nothing in flight.
"""

from __future__ import annotations

import traceback
from collections import Counter
from typing import TYPE_CHECKING, Any

from sda_pipeline.dlq.files import read_entries
from sda_pipeline.records.alert import canonical
from sda_pipeline.runtime.audit import audit
from sda_pipeline.state.alert_log import read_alerts
from sda_pipeline.state.subscriber_store import FILE_NAME, read_effects
from tests.process.verdict import ledger_faults
from tests.simulation import durability
from tests.simulation.durability import ALERTS
from tests.simulation.fault_plan import Loss

if TYPE_CHECKING:
    from tests.simulation.world import World


def finals(world: World) -> dict[str, str]:
    """Canonical finals by alert id, from the sink's table."""
    records = read_alerts(world.topology.state / ALERTS, final_only=True)
    return {record["alert_id"]: canonical(record) for record in records}


def final_faults(world: World) -> list[str]:
    """Everything wrong at the end of a schedule."""
    tree = world.supervisor.tree
    if tree.outcome is not None:
        return [f"the tree gave up: {tree.outcome}"]
    if not world.supervisor.complete:
        return ["it stopped before all was delivered"]
    ledger = [*read_effects(world.topology.subscriber / FILE_NAME)]
    faults = ledger_faults(ledger)
    if world.reference is not None:
        faults += _finals_faults(world, world.reference, ledger)
    faults += _audit_faults(world) + _dlq_faults(world) + _in_flight(world)
    return faults


def _finals_faults(
    world: World, reference: dict[str, str], ledger: list[dict[str, Any]]
) -> list[str]:
    """Against the undisturbed schedule's finals: those in the sink's table, and their effects."""
    found, faults = finals(world), []
    lacking = reference.keys() - found.keys()
    if Loss.SINK in world.excused:
        lacking = set()  # its table begins with what the correlator still held
    wrong = {name for name in found if found[name] != reference.get(name)}
    if lacking or wrong:
        faults.append(f"finals differ: {sorted(lacking)} are missing, {sorted(wrong)} are others")
    confirmed = {row["alert_id"] for row in ledger if row["final"] and row["level"]}
    if confirmed != set(reference):
        faults.append(f"the subscriber's finals are wrong: {sorted(confirmed ^ set(reference))}")
    return faults


def _audit_faults(world: World) -> list[str]:
    report = audit(world.topology)
    faults = [
        f"audit: {fault}"
        for fault in report.faults
        if not any(name in fault for name in world.spoiled)
    ]
    faults += [f"audit: {s.source} {s.in_flight} in flight" for s in report.sources if s.in_flight]
    for source in report.sources:
        total = sum(map(len, world.story.topics[source.source]))
        if source.read != total:
            faults.append(f"audit: {source.source} read {source.read} of {total} messages")
    return faults


def _dlq_faults(world: World) -> list[str]:
    wanted = world.story.rejected()
    unreadable: list[str] = []
    entries = [
        *read_entries(world.topology.state / "dlq", lambda line: unreadable.append(str(line)))
    ]
    found = Counter((e.operator, e.partition, e.offset) for e in entries)
    faults = [f"dlq: {line}" for line in unreadable]
    faults += [f"dlq: {key} stands there {n} times" for key, n in found.items() if n > 1]
    faults += [f"dlq: {key} is missing" for key in wanted.keys() - found.keys()]
    if world.said["rejects_in_doubt"]:
        faults.append("dlq: rejects were in doubt, though the broker holds all records")
    faults += [f"dlq: {key} was never refused" for key in found.keys() - wanted.keys()]
    for entry in entries:
        key = (entry.operator, entry.partition, entry.offset)
        if wanted.get(key, entry.original_payload) != entry.original_payload:
            faults.append(f"dlq: {key} has other bytes")
    return faults


def _in_flight(world: World) -> list[str]:
    """What is left in a ring after all was delivered and everybody finished."""
    wiring = world.supervisor.wiring
    edges = [edge.name for edge in world.topology.edges if edge.name not in world.damaged]
    occupied = {edge: wiring.occupied(edge) for edge in edges}
    return [f"{size} bytes are left in {edge}" for edge, size in occupied.items() if size]


def faults_at_death(world: World, name: str) -> list[str]:
    """What an operator has said or sent, at its death, that its store does not hold durably."""
    if name in world.excused:
        return []
    durable = durability.durable_words(world, name)
    board = world.supervisor.wiring.board
    faults = [
        f"{name} died with {word} = {board.get(word):#x} on the board, {held:#x} in its store"
        for word, held in durable.items()
        if board.get(word) > held
    ]
    return faults + durability.sent_ahead(world, name, durable)


def traceback_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))
