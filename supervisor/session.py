"""One ``start`` from the topology to the end of the run: claim the state directory, check, run."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from sda_pipeline.clock import Clock
from sda_pipeline.durable_file import write_durably
from sda_pipeline.errors import InvalidConfiguration, SdaError, disk_fault
from sda_pipeline.topology import Topology, from_resolved_json, sources_moved, to_resolved_json
from supervisor import claim
from supervisor.console import Say
from supervisor.control import answering_pid
from supervisor.process import Command, operator_command
from supervisor.runner import Options, Runner

RESOLVED = "topology.json"


def run_session(
    topology: Topology,
    options: Options,
    clock: Clock,
    say: Say,
    command: Command = operator_command,
) -> None:
    """Run the pipeline until it is stopped. SdaError says why it could not start or go on."""
    _check_files(topology)
    state = topology.state
    claim.prepare(state)
    claim.check_owner(topology.subscriber)
    lock = claim.take_lock(state, clock, lambda: answering_pid(state))
    try:
        _check_state(topology, say)
        options = _finish_what_began(state, options, say)
        try:
            write_durably(state / RESOLVED, to_resolved_json(topology))
        except OSError as error:
            action = f"write {state / RESOLVED}"
            fault = disk_fault(action, error) or SdaError(action, str(error), "see the disk")
            raise fault from error
        say(f"{topology.pipeline}: starting {len(topology.operators)} operators, state {state}")
        Runner(topology, options, clock, say, command).run(lock)
    finally:
        os.close(lock)


def resolved_topology(state: Path) -> Topology:
    """The topology the pipeline in ``state`` was last started with."""
    try:
        return from_resolved_json((state / RESOLVED).read_bytes())
    except OSError as error:
        raise InvalidConfiguration(
            f"read the pipeline in {state}",
            [f"{error.filename}: {error.strerror}"],
            "name the state directory of a pipeline that was started once",
        ) from error


def _check_files(topology: Topology) -> None:
    """Both input files are there; what is in them is the operators' to judge, once each."""
    faults = [
        f"the {what} file {path} {why}"
        for what, path in (("catalogue", topology.catalogue), ("sensors", topology.sensors))
        for why in (_unreadable(path),)
        if why
    ]
    if faults:
        hint = "name existing files in the topology, or make them with 'sda-sim catalogue'"
        raise InvalidConfiguration("start", faults, hint)


def _unreadable(path: Path) -> str:
    if not path.is_file():
        return "does not exist"
    return "" if os.access(path, os.R_OK) else "is not readable"


def _check_state(topology: Topology, say: Say) -> None:
    """The state may be gone on with, and by this topology."""
    state = topology.state
    if (state / claim.COMPLETE).exists():
        raise InvalidConfiguration(
            "start",
            [f"the run in {state} is complete: all its input was delivered"],
            "use another state directory, or remove this one",
        )
    if not (state / RESOLVED).exists():
        return
    try:
        moved = sources_moved(resolved_topology(state), topology)
    except InvalidConfiguration as error:
        # It is written anew at every start, so damage to it is repaired, and told.
        say(f"{RESOLVED} is damaged and written anew; its sources are not compared ({error.why})")
        return
    if moved:
        hint = "put new sources after the old ones, or use another state directory"
        raise InvalidConfiguration("start", [moved], hint)


def _finish_what_began(state: Path, options: Options, say: Say) -> Options:
    """A run begun with --end-of-input is finished by every further start (SPEC 8)."""
    if options.flags.end_of_input:
        claim.mark(state, claim.ENDING, "")
    elif (state / claim.ENDING).exists():
        say("finishing the run that was begun with --end-of-input")
        return replace(options, flags=replace(options.flags, end_of_input=True))
    return options
