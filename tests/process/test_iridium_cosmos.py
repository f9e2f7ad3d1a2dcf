"""The collision of 2009-02-10 through the whole running pipeline: one alert, its published figures.

Element sets of Iridium 33 and Cosmos 2251 as they were before the event; noise-free observations of
both by radar, telescope and link, played into the broker and consumed by real processes to the end.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from sda_pipeline.records.times import parse_times
from tests.process import verdict
from tests.process.site import Site
from tests.scenarios.true_world import Passage, TrueWorld
from tests.unit.orbit_rig import tle

pytestmark = pytest.mark.process

PAIR = (Path(__file__).parents[1] / "fixtures" / "iridium33-cosmos2251.tle").read_text()
COSMOS, IRIDIUM = 22675, 24946
TCA_NS = 1_234_284_959_795_800_000  # 16:55:59.7958 UTC
MISS_M, SPEED_M_S = 698.01, 11_647.24
WITHIN_NS, WITHIN_M, WITHIN_M_S = 5_000_000, 5.0, 0.02
DAYS_1950 = 21_590.0  # 2009-02-09, as the epochs of the bystanders
# Over the Taimyr peninsula, where it happened: everything is in view of all of them.
SENSORS = """\
sensors:
  RAD-KHATANGA: {kind: radar, lat: 72.0, lon: 102.5, alt_m: 30, time_sigma_s: 0.0001,
    azimuth_unc: 0.010, elevation_unc: 0.010, range_unc: 0.010, range_rate_unc: 0.0001}
  RAD-DIKSON: {kind: radar, lat: 73.5, lon: 80.5, alt_m: 40, time_sigma_s: 0.0001,
    azimuth_unc: 0.012, elevation_unc: 0.012, range_unc: 0.015, range_rate_unc: 0.00015}
  OPT-NORILSK: {kind: optical, lat: 69.3, lon: 88.2, alt_m: 600, time_sigma_s: 0.001,
    ra_unc: 0.0010, declination_unc: 0.0010}
  LINK-1: {kind: isl, pos_unc: 0.030, vel_unc: 0.0001, time_sigma_s: 0.0001}
  LINK-2: {kind: isl, pos_unc: 0.050, vel_unc: 0.0002, time_sigma_s: 0.0001}
"""
SHIFT_M = (0.0, 0.0, 30.0)  # across its orbit, for the control


class Found(NamedTuple):
    """What an outsider reads of a finished pipeline."""

    site: Site
    alerts: list[dict[str, Any]]  # the last record of each alert


def catalogue() -> str:
    """The pair, and three others that meet nobody."""
    rates = {70_001: 15.5, 70_002: 13.1, 70_003: 2.0056}
    others = [tle(s, rev_per_day=rate, epoch_days=DAYS_1950) for s, rate in rates.items()]
    return PAIR + "\n".join(others) + "\n"


def site_at(root: Path) -> Site:
    root.mkdir(parents=True)
    site = Site(root)
    site.write_topology(physics={"watch_km": 5})
    (root / "sensors.yaml").write_text(SENSORS)
    (root / "catalogue.tle").write_text(catalogue())
    return site


def run_through(site: Site, *recording: str) -> Found:
    """Record 75 s up to past the collision, play it, run the pipeline to its end."""
    site.run(
        "sda-sim", "record", "traffic.jsonl", "--noise-free", "--all-objects",
        "--from", "2009-02-10T16:54:50Z", "--for", "75s", *recording,
    )  # fmt: skip
    site.fill()
    site.finish()
    alerts = site.run("sda-supervisor", "alerts", "--json", "--state", "state").stdout
    return Found(site, [orjson.loads(line) for line in alerts.splitlines()])


@pytest.fixture(scope="module")
def collision(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """Both objects keep to their published elements."""
    return run_through(site_at(tmp_path_factory.mktemp("2009") / "site"), "--on-catalogue")


@pytest.fixture(scope="module")
def shifted(collision: Found, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """The same, but Iridium truly flies 30 m to the side: from a truth file that says so."""
    site = site_at(tmp_path_factory.mktemp("shifted") / "site")
    truth = orjson.loads((collision.site.root / "traffic.jsonl.truth.json").read_bytes())
    truth |= {"on_catalogue": False, "offsets": {str(IRIDIUM): SHIFT_M}}
    (site.root / "shifted.json").write_bytes(orjson.dumps(truth))
    return run_through(site, "--truth", "shifted.json")


def time_of(text: str) -> int:
    times, good = parse_times([text])
    assert good.all()
    return int(times[0])


def agrees(alert: dict[str, Any], real: Passage) -> bool:
    """Within 5 ms and 5 m, and the speed."""
    return (
        abs(time_of(alert["tca"]) - real.tca_ns) <= WITHIN_NS
        and abs(alert["miss_m"] - real.miss_m) <= WITHIN_M
        and abs(alert["rel_speed_m_s"] - real.speed_m_s) <= WITHIN_M_S
    )


PUBLISHED = Passage(TCA_NS, MISS_M, SPEED_M_S)


def test_exactly_one_final_watch_with_the_published_figures(collision: Found) -> None:
    (alert,) = collision.alerts
    print({name: alert[name] for name in ("tca", "miss_m", "rel_speed_m_s", "pc")})
    assert (alert["sat1"], alert["sat2"]) == (COSMOS, IRIDIUM)
    assert (alert["action"], alert["level"], alert["final"]) == ("insert", "WATCH", True)
    assert agrees(alert, PUBLISHED), alert
    assert alert["pc"] < 1e-100
    assert alert["pc_flags"] == []


def test_every_kind_of_sensor_had_its_part(collision: Found) -> None:
    (alert,) = collision.alerts
    assert min(alert["n_obs1"], alert["n_obs2"]) >= 5
    audit = collision.site.run("sda-supervisor", "audit", "--json", "--state", "state")
    applied = {s["source"]: s["applied"] for s in orjson.loads(audit.stdout)["sources"]}
    assert applied.keys() == {"radar", "optical", "isl"}
    assert min(applied.values()) >= 3, applied


def test_it_took_effect_once_and_nothing_is_left_over(collision: Found) -> None:
    verdict.check(collision.site, verdict.finals(collision.site))
    effects = [row["effect"] for row in verdict.ledger(collision.site)]
    assert effects[0] == "raise"
    assert effects[-1] == "confirm"


def test_the_simulator_s_truth_says_the_same(collision: Found) -> None:
    truth = orjson.loads((collision.site.root / "traffic.jsonl.truth.json").read_bytes())
    (told,) = truth["encounters"]
    (alert,) = collision.alerts
    assert told["alert_id"] == alert["alert_id"]
    assert agrees(alert, Passage(told["tca_ns"], told["miss_m"], told["rel_speed_m_s"]))


def test_another_flight_would_show(shifted: Found) -> None:
    """The control: of an Iridium 30 m to the side the pipeline says where it truly is."""
    (alert,) = shifted.alerts
    assert not agrees(alert, PUBLISHED)
    world = TrueWorld(catalogue(), {IRIDIUM: SHIFT_M})
    real = world.passage(COSMOS, IRIDIUM, TCA_NS)
    print({"found": alert["miss_m"], "true": real.miss_m})
    assert abs(real.miss_m - MISS_M) > 2 * WITHIN_M
    assert agrees(alert, real)
