"""The crash tests on the real Kafka: the same tests, the finals of the embedded broker's run."""

from __future__ import annotations

import pytest

from tests.process import verdict
from tests.process.site import Site
from tests.process.test_crash import (
    test_one_operator_killed,
    test_supervisor_killed_alone_takes_the_tree_with_it,
    test_whole_tree_killed_at_one_instant,
)
from tests.process.test_random_kills import test_one_operator_at_ten_moments
from tests.servers.kafka_topics import Topics

pytestmark = [pytest.mark.kafka, pytest.mark.process]
__all__ = [
    "test_one_operator_at_ten_moments",
    "test_one_operator_killed",
    "test_supervisor_killed_alone_takes_the_tree_with_it",
    "test_whole_tree_killed_at_one_instant",
]


def test_finals_are_those_of_the_embedded_broker(
    site: Site, topics: Topics, undisturbed: dict[str, str]
) -> None:
    site.finish()
    verdict.check(site, undisturbed)
    for source in ("radar", "optical", "isl"):
        topic = f"sda.obs.{source}"
        assert topics.committed("sda", topic) == topics.offsets(topic)[1] > 0
