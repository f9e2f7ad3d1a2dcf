"""Rules of the way of rejects, each broken on purpose; ``broken`` knows those of
``broken_rules.py``, too. Not a test itself.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from operators import dlq_sink
from operators.lost_rejects import LostRejects
from sda_pipeline.dlq.marks import take
from tests.simulation.broken_rules import RULES, broken, rule

__all__ = ["RULES", "broken"]


@rule("DLQ high-water mark off")
def _(stack: ExitStack) -> None:
    stack.enter_context(patch.object(dlq_sink, "take", lambda mark, head: (0, take(mark, head)[1])))


@rule("a lost reject frame goes unseen")
def _(stack: ExitStack) -> None:
    def blind(mark: Any, head: Any) -> Any:
        return take(mark, head._replace(after=0))

    stack.enter_context(patch.object(dlq_sink, "take", blind))


@rule("rejects of a lost log are not sought")
def _(stack: ExitStack) -> None:
    stack.enter_context(patch.object(LostRejects, "next", lambda *_: None))


@rule("what was before a log is taken without its ids")
def _(stack: ExitStack) -> None:
    stack.enter_context(patch.object(dlq_sink._Loop, "known_ids", lambda *_: set()))
