"""Ten thousand records of an unknown sensor come back by ``sda-reprocess``, once."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.process import verdict
from tests.process.reprocess_rig import (
    Live,
    counts,
    in_dlq,
    refused_first,
    reprocess,
    sendings,
    taken,
)
from tests.process.site import Site

pytestmark = pytest.mark.process

RATE = 100  # all kinds; over 10,000 radar observations in 150 s


class Refused(NamedTuple):
    """A stopped pipeline with its radar records in the DLQ, and the alerts they imply."""

    site: Site
    finals: dict[str, str]


@pytest.fixture(scope="module")
def refused(prepared: Site, tmp_path_factory: pytest.TempPathFactory) -> Refused:
    root = tmp_path_factory.mktemp("refused")
    found = refused_first(
        prepared, root, RATE, lambda name: name.startswith("RAD"), radar_only=True
    )
    return Refused(*found)


def test_ten_thousand_records_of_a_sensor_added_since(refused: Refused) -> None:
    site = refused.site
    entries = len(in_dlq(site))
    assert entries >= 10_000
    assert verdict.ledger(site) == []

    told = reprocess(site, "--dry-run").said["summary"]
    assert told["warnings"][0].startswith("catalogue, sensors or physics are not those")
    with Live(site, "--accept-catalogue") as live:
        check_live(live, entries)
        live.stop()
    site.finish()
    verdict.check(site, refused.finals)


def check_live(live: Live, entries: int) -> None:
    """They come back once; nothing that is known has any further effect."""
    site = live.site
    told = reprocess(site, "run", "--dry-run").said["summary"]
    assert (told["sends"], told["verdicts"]["re-injected"]) == (entries, entries)
    assert (told["warnings"], told["refused_again"]) == ([], 0)
    assert sendings(site) == []
    assert taken(site) == 0

    done = reprocess(
        site, "run", "--yes", "--error-kind", "validationfailed", "--operator", "radar"
    )
    assert done.said["sent"] == entries
    live.settle()
    assert len(in_dlq(site)) == entries, "none was refused again"
    assert taken(site) == entries
    effects, applied = verdict.ledger(site), counts(site)["radar"]["applied"]
    assert {row["effect"] for row in effects} >= {"raise"}

    # Already applied: nothing is sent; and sent all the same, nothing happens.
    again = reprocess(site, "run", "--yes")
    assert (again.said["sent"], again.said["summary"]["verdicts"]["known"]) == (0, entries)
    forced = reprocess(site, "run", "--yes", "--force")
    assert forced.said["sent"] == entries
    print(f"10,000 applied: {again.cpu_s:.1f} s of CPU, with --force {forced.cpu_s:.1f} s")
    live.settle()
    assert len(in_dlq(site)) == entries
    assert verdict.ledger(site) == effects, "no effect at the subscriber"
    radar = counts(site)["radar"]
    assert radar["applied"] == applied > 0
    assert taken(site) + radar["late"] == 2 * entries

    # The ledger lost: the log knows them.
    (site.state / "reprocess.sqlite").rename(site.root / "lost.sqlite")
    unaided = reprocess(site, "run", "--yes")
    assert (unaided.said["sent"], unaided.said["summary"]["verdicts"]["known"]) == (0, entries)
    assert {e["why"] for e in unaided.said["entries"]} == {"radar has this observation"}
