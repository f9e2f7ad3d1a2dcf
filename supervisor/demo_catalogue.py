"""Which catalogue a demo runs on: the present one while it lasts, else a new one. Makes none.

Never one that is not the simulator's: what a user brought is not overwritten.
"""

from __future__ import annotations

from typing import NamedTuple

from sda_pipeline.astro.catalogue import configuration_hash
from sda_pipeline.cli.sim.truth import Truth, read_truth, truth_path
from sda_pipeline.errors import InvalidConfiguration, SdaError
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.state.environment import DATA_FILE, damage_of
from sda_pipeline.state.recovery import CORRELATOR
from sda_pipeline.state.store import CorrelatorStore
from sda_pipeline.topology import Topology

LEFT_NS = 120 * SECOND_NS  # of encounters: below that a demo would soon show nothing new


class Present(NamedTuple):
    """The catalogue that is there."""

    objects: int
    encounters_ns: tuple[int, ...]  # TCA of each engineered encounter, ascending
    ends_ns: int

    def lasts(self, now_ns: int) -> bool:
        """Whether enough of its encounters are still to come."""
        return self.ends_ns - now_ns >= LEFT_NS

    def next_ns(self, now_ns: int) -> int | None:
        """The next engineered encounter."""
        return next((tca for tca in self.encounters_ns if tca >= now_ns), None)


def present_catalogue(topology: Topology) -> Present | None:
    """What the truth file says, or None when there is no catalogue.

    InvalidConfiguration when there is one that the simulator did not make.
    """
    try:
        catalogue = topology.catalogue.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        why = f"{topology.catalogue}: {error.strerror}"
        raise InvalidConfiguration("run the demo", [why], "make it readable") from error
    try:
        truth = read_truth(truth_path(topology.catalogue), catalogue)
    except InvalidConfiguration as error:
        beside = truth_path(topology.catalogue).name
        why = f"{topology.catalogue} is not one of sda-sim's ({beside}: {error.faults[0]})"
        hint = "run it with 'sda-supervisor start', or name another catalogue file in the topology"
        raise InvalidConfiguration("run the demo", [why], hint) from error
    return _present(truth)


def _present(truth: Truth) -> Present:
    ours = sorted(e.tca_ns for e in truth.encounters if e.origin == "engineered")
    return Present(truth.objects, tuple(ours), truth.ends_ns)


def needs_accepting(topology: Topology) -> bool:
    """Whether the state was built with another catalogue, other sensors or other physics.

    Call while no pipeline runs. What cannot be told counts as another: accepting the same one
    changes nothing, and a damaged state is recovered from a snapshot of whatever catalogue.
    """
    directory = topology.state / CORRELATOR
    if not (directory / DATA_FILE).exists():
        return False
    if damage_of(directory / DATA_FILE):  # before the engine opens it: it might die of it
        return True
    try:
        inputs = topology.catalogue.read_bytes(), topology.sensors.read_bytes()
        store = CorrelatorStore(directory, readonly=True)
    except (SdaError, OSError):
        return True
    try:
        current = configuration_hash(*inputs, topology.physics)
        return not store.empty and store.meta.catalogue != current
    finally:
        store.close()
