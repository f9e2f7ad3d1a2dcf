"""What an audit says: a sum for each source, and every contradiction with its place. No checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from sda_pipeline.errors import SdaError

Fault = Callable[[str], None]  # takes one contradiction, which begins with where it is

FAULTS_MAX = 1_000  # one broken counter can show in every record of a log


@dataclass
class SourceAudit:
    """One source's sum: everything but ``read``, ``in_flight`` and ``residue`` is a final class."""

    source: str
    read: int = 0
    applied: int = 0
    unpaired: int = 0
    duplicate: int = 0
    late: int = 0
    shed: int = 0
    rejected: int = 0
    discarded: int = 0
    quarantined: int = 0
    superseded: int = 0
    missing: int = 0
    in_flight: int = 0  # logged, not yet applied

    @property
    def residue(self) -> int:
        """0 when nothing is lost and nothing is counted twice."""
        classes = asdict(self)
        del classes["source"]
        read = int(classes.pop("read"))
        return read - sum(int(count) for count in classes.values())


@dataclass
class AuditReport:
    """The sums and every contradiction found, each saying where."""

    sources: list[SourceAudit] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what is known to be gone, and accounted for
    waiting: dict[str, int] = field(default_factory=dict)  # on their way to where the name says

    def fault(self, text: str) -> None:
        """Note a contradiction, unless there are more than anybody will read."""
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(text)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """What cannot be read is a fault, too; the audit goes on with what else there is."""
        try:
            yield
        except SdaError as error:
            self.fault(str(error))
