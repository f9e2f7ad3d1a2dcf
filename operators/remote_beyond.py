"""What the correlator's recovery may fall back on beyond this disk; whether it may begin anew."""

from __future__ import annotations

from operators.remote_horizon import chance, connect
from sda_pipeline.records.alert import NUMBER_MASK
from sda_pipeline.runtime.worker import Worker
from sda_pipeline.state.recovery import Beyond
from sda_pipeline.state.remote_rung import PatientRemote
from sda_pipeline.vocabulary import Step

_HAD_STORE = "this run has had a store"


def what_lies_beyond(worker: Worker) -> Beyond:
    """The remote rung of a topology that has one; nothing else may then be silently begun anew.

    ``--allow-fresh`` speaks of what was lost before the run: once a correlator of it has been
    ready, it allows nothing more.
    """
    topology = worker.topology
    if topology.s3 is None:
        return Beyond()
    remote = PatientRemote(
        lambda: connect(topology), topology.s3.recovery_wait_s, worker.clock, chance,
        worker.event, lambda: worker.beat(Step.RECOVER),
    )  # fmt: skip
    allowed = worker.launch.flags.allow_fresh
    if allowed and worker.board.get("epoch"):
        return Beyond(remote, f"{_HAD_STORE}, so its --allow-fresh is used up")
    return Beyond(remote, _suspicion(worker), allowed)


def _suspicion(worker: Worker) -> str:
    """Why this is no first start, by what others have told before the correlator is ready."""
    told = {
        "the subscriber has taken alerts": "sub_pos",
        "the alert sink has taken alerts": "sink_pos",
    }
    for why, word in told.items():
        if worker.board.get(word) & NUMBER_MASK:
            return why
    return _HAD_STORE if worker.board.get("epoch") else ""
