"""What is emitted about an encounter: raise, change, withdraw, final (SPEC 5). Pure, one encounter
at a time.

Upgrades at once; downgrades only when event time has passed the pane, at most once a pane; a final
when no
accepted row can change it. Finals depend on the evaluation only, never on what was emitted before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from operators.core.evaluation import Evaluation, Side
from operators.core.schedule import pane_of, tau
from sda_pipeline.astro.catalogue import Catalogue
from sda_pipeline.astro.encounter import Scheduled, rel_pos_rtn, rtn_covariance21
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.records.alert import EPOCH_SHIFT, INSERT, NUMBER_MASK, RETRACT
from sda_pipeline.records.times import format_time
from sda_pipeline.settings import Physics
from sda_pipeline.vocabulary import LEVEL_RANK, Level

DOWNGRADE_FACTOR = 3.0  # a provisional downgrade waits until 3 x Pc is below the threshold
NO_PANE = -1


class AlertState(msgspec.Struct, kw_only=True):
    """What the correlator remembers about an alert it has raised; stored in LMDB."""

    alert_id: str
    low: int
    high: int
    tca_ns: int  # TCA_cat of the encounter under ``catalogue``
    catalogue: int
    sequence: int = 0  # of the last record emitted
    level: str | None = None  # level of the last record; None after a retract
    downgrade_pane: int = NO_PANE  # last pane that lowered it provisionally
    final: bool = False
    record: dict[str, Any] | None = None  # the last one emitted, to be sent again in a new epoch

    @property
    def closes(self) -> int:
        """No accepted row can change the alert once C has reached this time, ns."""
        return tau(pane_of(self.tca_ns))


class Context(msgspec.Struct, frozen=True):
    """What a record needs besides its evaluation."""

    catalogue: Catalogue
    physics: Physics
    catalogue_hash: int
    epoch: int
    now_ns: int  # wall clock, for ``created`` only


def fresh_state(encounter: Scheduled, catalogue_hash: int) -> AlertState:
    """The state of an encounter about which nothing was emitted yet."""
    return AlertState(
        alert_id=encounter.alert_id, low=encounter.low, high=encounter.high,
        tca_ns=encounter.tca_ns, catalogue=catalogue_hash,
    )  # fmt: skip


def provisional(
    state: AlertState, evaluation: Evaluation | None, watermark: int, context: Context
) -> list[dict[str, Any]]:
    """The records of an eager emission, none when nothing changes. Updates ``state``."""
    level = evaluation.level if evaluation else None
    held = Level(state.level) if state.level else None
    if LEVEL_RANK[level] > LEVEL_RANK[held]:
        return _emit(state, evaluation, level, context, final=False)
    if level is held or not _may_lower(state, evaluation, held, watermark, context.physics):
        return []
    state.downgrade_pane = evaluation.pane if evaluation else NO_PANE
    return _emit(state, evaluation, level, context, final=False)


def wants_downgrade(state: AlertState, evaluation: Evaluation | None) -> bool:
    """Whether the evaluation stands below what was emitted, so that event time alone may lower
    it.
    """
    level = evaluation.level if evaluation else None
    held = Level(state.level) if state.level else None
    return LEVEL_RANK[level] < LEVEL_RANK[held]


def _may_lower(
    state: AlertState,
    evaluation: Evaluation | None,
    held: Level | None,
    watermark: int,
    physics: Physics,
) -> bool:
    if evaluation is None:  # its rows were superseded by another catalogue: the final decides
        return False
    if watermark < tau(evaluation.pane) or state.downgrade_pane == evaluation.pane:
        return False
    threshold = {Level.RED: physics.red_pc, Level.YELLOW: physics.yellow_pc}.get(
        held or Level.WATCH
    )
    outside = evaluation.miss_m > physics.screening_km * 1000.0
    return threshold is None or outside or DOWNGRADE_FACTOR * evaluation.pc < threshold


def final(
    state: AlertState, evaluation: Evaluation | None, context: Context
) -> list[dict[str, Any]]:
    """The last records of an alert: thresholds exact. None for an encounter never raised. Updates
    ``state``.
    """
    level = evaluation.level if evaluation else None
    state.final = True
    if level is None and state.sequence == 0:
        return []
    return _emit(state, evaluation, level, context, final=True)


def emitted_again(
    held: Iterable[AlertState], undelivered: Iterable[dict[str, Any]], epoch: int
) -> list[list[dict[str, Any]]]:
    """Everything there is to say once more under a higher epoch: a reader may have lost it.

    The last record of each alert held, and before them those of ``undelivered`` whose alert is held
    no longer. Updates the states.
    """
    states = sorted(held, key=lambda state: (state.closes, state.alert_id))
    known = {state.alert_id for state in states}
    lost = {r["alert_id"]: r for r in undelivered if r["alert_id"] not in known}
    return [
        *([renumbered(record, epoch)] for record in lost.values()),
        *([_again(state, epoch)] for state in states),
    ]


def _again(state: AlertState, epoch: int) -> dict[str, Any]:
    assert state.record is not None, "an alert is stored when it is emitted"
    state.record = renumbered(state.record, epoch)
    state.sequence = state.record["sequence"]
    return state.record


def renumbered(record: dict[str, Any], epoch: int) -> dict[str, Any]:
    """A record under a higher epoch."""
    return {**record, "sequence": _following(record["sequence"], epoch)}


def _emit(
    state: AlertState,
    evaluation: Evaluation | None,
    level: Level | None,
    context: Context,
    *,
    final: bool,
) -> list[dict[str, Any]]:
    """A retract when the level held differs, an insert when there is a level; sequences follow
    on.
    """
    records: list[dict[str, Any]] = []
    held = state.level
    if (held is not None and held != level) or level is None:
        reason = "level_changed" if level else "below_threshold"
        before = state.sequence
        records.append(_retract(state, before, _next(state, context), reason, final=final))
    if level is not None:
        assert evaluation is not None, "a level comes from an evaluation"
        sequence = _next(state, context)
        records.append(_insert(state, evaluation, level, sequence, context, final=final))
    state.level, state.record = level, records[-1]
    return records


def _next(state: AlertState, context: Context) -> int:
    state.sequence = _following(state.sequence, context.epoch)
    return state.sequence


def _following(sequence: int, epoch: int) -> int:
    return (epoch << EPOCH_SHIFT) | ((sequence & NUMBER_MASK) + 1)


def _retract(
    state: AlertState, before: int, sequence: int, reason: str, *, final: bool
) -> dict[str, Any]:
    return {
        "alert_id": state.alert_id,
        "sequence": sequence,
        "action": RETRACT,
        "final": final,
        "supersedes": before,
        "reason": reason,
        "sat1": state.low,
        "sat2": state.high,
        "closes": format_time(state.closes),
    }


def _insert(
    state: AlertState,
    evaluation: Evaluation,
    level: Level,
    sequence: int,
    context: Context,
    *,
    final: bool,
) -> dict[str, Any]:
    encounter, low, high = evaluation.encounter, evaluation.low, evaluation.high
    tca = encounter.tca_ns + round(evaluation.t_star * SECOND_NS)
    object1 = _object(low, encounter.tca_ns, evaluation.t_star, context.catalogue)
    object2 = _object(high, encounter.tca_ns, evaluation.t_star, context.catalogue)
    relative = rel_pos_rtn(
        np.array([object1["pos_m"]]), np.array([object1["vel_m_s"]]), evaluation.dr[None, :]
    )
    return {
        "alert_id": encounter.alert_id,
        "sequence": sequence,
        "action": INSERT,
        "final": final,
        "level": str(level),
        "sat1": encounter.low,
        "sat2": encounter.high,
        "tca": format_time(tca),
        "closes": format_time(state.closes),
        "miss_m": evaluation.miss_m,
        "rel_speed_m_s": evaluation.speed_m_s,
        "rel_pos_rtn_m": relative[0].tolist(),
        "pc": evaluation.pc,
        "pc_method": "FOSTER-1992",
        "pc_flags": list(evaluation.flags),
        "hbr_m": context.physics.hbr_m,
        "mahalanobis": evaluation.mahalanobis,
        "pane": evaluation.pane,
        "n_obs1": low.n_obs,
        "n_obs2": high.n_obs,
        "created": format_time(context.now_ns),
        "catalogue": f"{context.catalogue_hash:016x}",
        "ingest_ns": max(low.ingest, high.ingest),
        "object1": object1,
        "object2": object2,
    }


def _object(side: Side, tca_cat: int, t_star: float, catalogue: Catalogue) -> dict[str, Any]:
    """Fused state and covariance of one object at tca: SGP4 there plus the deviation carried by
    Phi.
    """
    r, v = catalogue.state_at(side.index, tca_cat + round(t_star * SECOND_NS))
    phi = np.eye(6)
    phi[:3, 3:] = t_star * np.eye(3)
    pos = r + (side.delta[:3] + t_star * side.delta[3:])
    vel = v + side.delta[3:]
    cov = phi @ side.cov @ phi.T
    packed = rtn_covariance21(cov[None], pos[None], vel[None])
    return {"pos_m": pos.tolist(), "vel_m_s": vel.tolist(), "cov": packed[0].tolist()}
