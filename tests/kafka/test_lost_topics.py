"""A topic of Kafka loses something, is cut or made anew while traffic flows: what is left is read,
what is known to be gone is counted as missing, and nothing takes effect twice.
"""

from __future__ import annotations

import signal

import pytest

from tests.kafka.kafka_site import Own, audit_of
from tests.kafka.test_misbehaviour import all_away, all_back, events
from tests.process import verdict
from tests.process.flow import Run, event_ms
from tests.process.waiting import wait_until
from tests.servers.kafka_topics import Topics

pytestmark = [pytest.mark.kafka, pytest.mark.process]
AT_ONCE = "100000"
OTHERS_SPEED = "5"  # 150 s of event time in 30 s: there is time to do something meanwhile


def test_retention_removed_what_we_want(own: Own) -> None:
    """The radar's source does not look while half of its topic comes and a part of it goes."""
    run = own.run()
    run.play()
    run.wait_for(0.2)
    assert run.signalled(["radar"], signal.SIGSTOP)
    assert run.traffic.poll() is None, "the traffic must outlast the stop"
    assert run.traffic.wait(120) == 0
    own.kafka.kill()
    own.kafka.start()
    wait_until(lambda: own.topics.leaders("sda.obs.radar"), run.story)
    end = own.topics.offsets("sda.obs.radar")[1]
    own.topics.truncate("sda.obs.radar", 0, end - 50)
    assert run.signalled(["radar"], signal.SIGCONT)
    wait_until(lambda: missing(run).get("radar"), run.story)
    wait_until(run.caught_up, run.story)
    shown = missing(run)
    run.stop()
    run.site.finish()
    radar = audit_of(run.site)["radar"]
    assert radar["read"] == end
    told = events(run, "radar", "offsets_missing")
    assert radar["missing"] == sum(int(str(event["missing"])) for event in told) > 50
    assert shown == {"radar": radar["missing"], "optical": 0, "isl": 0}
    assert verdict.audit_faults(run.site) == []
    assert verdict.ledger_faults(verdict.ledger(run.site)) == []
    assert verdict.finals(run.site)


def missing(run: Run) -> dict[str, int]:
    """What ``status`` says was gone before it was read, by source."""
    return {source["name"]: source["missing"] for source in run.site.status().get("sources", ())}


def half_of_radar_amid_others(run: Run, topics: Topics) -> int:
    """The first half of the radar's traffic is read while the others' flows on; its count."""
    run.play("others.jsonl", OTHERS_SPEED)
    run.traffic.upto = event_ms(0.8)  # it never ends before it is let
    run.play("radar-1.jsonl")
    assert run.traffic.wait(120) == 0
    count = topics.offsets("sda.obs.radar")[1]
    wait_until(lambda: topics.committed("sda", "sda.obs.radar") == count, run.story)
    others_flow(run)
    return count


def others_flow(run: Run) -> None:
    assert run.players[0].poll() is None, "the others' traffic must outlast what is done"


def test_the_topic_is_recreated(own: Own, undisturbed: dict[str, str]) -> None:
    """Amid the traffic of all, and its leader changed before: what comes after it comes into the
    new topic, whose leader's epochs begin anew.
    """
    run, topics = own.run(), own.topics
    count = half_of_radar_amid_others(run, topics)
    own.kafka.kill()
    wait_until(lambda: all_away(run), run.story)
    own.kafka.start()
    wait_until(lambda: all_back(run), run.story)
    topics.delete("sda.obs.radar")
    topics.create("sda.obs.radar")
    run.play("radar-2.jsonl")
    wait_until(lambda: events(run, "radar", "partition_begun_anew"), run.story)
    others_flow(run)
    run.finish(undisturbed)
    radar = audit_of(run.site)["radar"]
    assert (radar["read"], radar["missing"]) == (count + topics.offsets("sda.obs.radar")[1], 0)


def test_the_topic_is_recreated_and_filled_again(
    run: Run, topics: Topics, undisturbed: dict[str, str]
) -> None:
    """All that was read comes a second time, and takes no effect."""
    run.play()
    assert run.traffic.wait(120) == 0
    wait_until(run.caught_up, run.story)
    count = topics.offsets("sda.obs.radar")[1]
    topics.delete("sda.obs.radar")
    topics.create("sda.obs.radar")
    run.play("others.jsonl")
    run.site.run("sda-sim", "play", "radar.jsonl", "--speed", "max")
    wait_until(lambda: events(run, "radar", "partition_begun_anew"), run.story)
    run.finish(undisturbed)
    radar = audit_of(run.site)["radar"]
    assert (radar["read"], radar["missing"]) == (2 * count, 0)


def test_the_topic_is_truncated_and_filled_again_unseen(
    own: Own, undisturbed: dict[str, str]
) -> None:
    """When the source looks again, its position lies amid what came since: the leaders' epochs
    tell that it is another history.
    """
    run = own.run()
    count = half_of_radar_amid_others(run, own.topics)
    assert run.signalled(["radar"], signal.SIGSTOP)
    own.kafka.kill()
    own.cut_log("sda.obs.radar", 0.8)
    own.kafka.start()
    wait_until(lambda: own.topics.leaders("sda.obs.radar"), run.story)
    run.play("radar-2.jsonl", AT_ONCE)
    assert run.traffic.wait(120) == 0
    end = own.topics.offsets("sda.obs.radar")[1]
    assert end > count, "its position is there again"
    others_flow(run)
    assert run.signalled(["radar"], signal.SIGCONT)
    wait_until(lambda: events(run, "radar", "partition_begun_anew"), run.story)
    run.finish(undisturbed)
    radar = audit_of(run.site)["radar"]
    assert (radar["read"], radar["missing"]) == (count + end, 0)


def test_the_topic_is_truncated(own: Own, undisturbed: dict[str, str]) -> None:
    """A broker that comes back, amid traffic, with less than it had acknowledged: its disk lost
    the end.
    """
    run = own.run()
    count = half_of_radar_amid_others(run, own.topics)
    own.kafka.kill()
    own.cut_log("sda.obs.radar", 0.5)
    own.kafka.start()
    wait_until(lambda: own.topics.leaders("sda.obs.radar"), run.story)
    left = own.topics.offsets("sda.obs.radar")[1]
    assert 0 < left < count
    wait_until(lambda: events(run, "radar", "partition_begun_anew"), run.story)
    others_flow(run)
    run.play("radar-2.jsonl")
    run.finish(undisturbed)
    radar = audit_of(run.site)["radar"]
    end = own.topics.offsets("sda.obs.radar")[1]
    assert (radar["read"], radar["missing"]) == (count + end, 0)
