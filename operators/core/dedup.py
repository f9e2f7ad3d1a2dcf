"""DedupSet: keys stored lately, so that a repeat is skipped without asking. Not the truth; pure.

It may forget (time, size) but never invents: it is filled after a commit and from the table on
start, so it skips only what is stored.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from sda_pipeline.limits import DEDUP_ENTRIES_MAX, DEDUP_SECONDS, SECOND_NS

Key = tuple[str, int]  # (alert_id, sequence)


class DedupSet:
    """At most ``entries_max`` keys, each for ``window_ns`` after it was last added.

    Times are monotonic ns and must not go back from call to call.
    """

    def __init__(
        self,
        window_ns: int = round(DEDUP_SECONDS * SECOND_NS),
        entries_max: int = DEDUP_ENTRIES_MAX,
    ) -> None:
        assert window_ns > 0, "a window without length would know nothing"
        assert entries_max > 0, "a set without room would know nothing"
        self._window_ns, self._entries_max = window_ns, entries_max
        self._added: OrderedDict[Key, int] = OrderedDict()  # when; the longest ago first

    def __len__(self) -> int:
        return len(self._added)

    def known(self, key: Key, now_ns: int) -> bool:
        """Whether the key was added within the window before ``now_ns``."""
        self._expire(now_ns)
        return key in self._added

    def add(self, keys: Iterable[Key], now_ns: int) -> None:
        """Remember keys that are stored. The oldest make room when there are too many."""
        for key in keys:
            self._added[key] = now_ns
            self._added.move_to_end(key)
        self._expire(now_ns)

    def _expire(self, now_ns: int) -> None:
        added = self._added
        while added and (
            len(added) > self._entries_max or now_ns - next(iter(added.values())) >= self._window_ns
        ):
            added.popitem(last=False)
