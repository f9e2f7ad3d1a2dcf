"""Every kind of DLQ entry has a runbook that somebody can act on at 02:00."""

from __future__ import annotations

from pathlib import Path

import pytest

from sda_pipeline.vocabulary import ErrorKind

RUNBOOKS = Path(__file__).resolve().parents[2] / "runbooks"
LINES_MAX = 60


def test_one_for_each_kind_and_no_other() -> None:
    assert {path.name for path in RUNBOOKS.glob("dlq-*.md")} == {
        f"dlq-{kind}.md" for kind in ErrorKind
    }


@pytest.mark.parametrize("kind", ErrorKind)
def test_it_says_what_it_means_what_to_do_and_how_to_reprocess(kind: ErrorKind) -> None:
    text = (RUNBOOKS / f"dlq-{kind}.md").read_text()
    assert text.startswith(f"# DLQ: {kind}\n")
    for heading in ("## What it means", "## Look", "## Do", "## Re-process"):
        assert f"\n{heading}\n" in text
    assert "sda-reprocess" in text.partition("## Re-process")[2]
    assert len(text.splitlines()) <= LINES_MAX
    assert f"dlq-{kind}.md" in (RUNBOOKS / "README.md").read_text()
