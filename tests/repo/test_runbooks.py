"""Every kind of DLQ entry has a runbook that somebody can act on at 02:00; and what the runbooks
and README name is there: events, settings, commands.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path

import click
import pytest

from sda_pipeline.broker.kafka_settings import KafkaSettings
from sda_pipeline.cli.reprocess.reprocess_cli import cli as reprocess
from sda_pipeline.cli.sim.main import cli as sim
from sda_pipeline.dlq.quarantine_file import NAME as QUARANTINE
from sda_pipeline.dlq.reprocess_ledger import FILE_NAME as SENDINGS
from sda_pipeline.state.subscriber_store import FILE_NAME as EFFECTS
from sda_pipeline.topology import S3Settings, load_topology
from sda_pipeline.vocabulary import ErrorKind
from supervisor.cli import cli as supervisor

ROOT = Path(__file__).resolve().parents[2]
RUNBOOKS = ROOT / "runbooks"
PAGES = [*sorted(RUNBOOKS.glob("*.md")), ROOT / "README.md"]
LINES_MAX = 60
GROUPS = {"sda-supervisor": supervisor, "sda-sim": sim, "sda-reprocess": reprocess}
PLACEHOLDERS = {
    "OPERATOR": "radar", "DIR": "state", "FILE": "topology.yaml", "T": "trial", "N": "5",
    "DLQ_ID": "ab",
}  # fmt: skip
# Events that tell of normal work: nobody need look anything up.
ROUTINE = {
    "catalogue_accepted", "checkpoints", "counts", "effect", "epoch_raised", "horizon_announced",
    "ready", "recovered", "resent", "segments_deleted", "snapshot", "stopped", "uploaded",
    "uploads_swept", "remote_horizon_back", "broker_back", "disk_reserve_back",
}  # fmt: skip


def test_one_for_each_kind_and_no_other() -> None:
    assert {path.name for path in RUNBOOKS.glob("dlq-*.md")} == {
        f"dlq-{kind}.md" for kind in ErrorKind
    }


@pytest.mark.parametrize("kind", ErrorKind)
def test_it_says_what_it_means_what_to_do_and_how_to_reprocess(kind: ErrorKind) -> None:
    text = (RUNBOOKS / f"dlq-{kind}.md").read_text()
    assert text.startswith(f"# DLQ: {kind}\n")
    for heading in ("## What it means", "## Look", "## Do", "## Re-process"):
        body = text.partition(f"\n{heading}\n")[2].partition("\n## ")[0]
        assert len(body.split()) >= 10, f"{heading} is a heading only"
    look, again = (
        text.partition(f"\n## {part}\n")[2].partition("\n## ")[0] for part in ("Look", "Re-process")
    )
    assert f"sda-reprocess list --error-kind {kind}" in look
    assert "sda-reprocess" in again
    assert "--dry-run" in again, "what would happen comes first"
    assert len(text.splitlines()) <= LINES_MAX
    assert f"dlq-{kind}.md" in (RUNBOOKS / "README.md").read_text()


@cache
def code() -> str:
    """All that runs, and the topologies."""
    files = [p for name in ("sda_pipeline", "operators", "supervisor")
             for p in sorted((ROOT / name).rglob("*.py"))]  # fmt: skip
    return "\n".join(path.read_text() for path in [*files, ROOT / "topology.yaml"])


def spans(text: str) -> Iterator[str]:
    """What stands in backticks, and every line that is a command."""
    for span in re.findall(r"`([^`]+)`", text):
        yield " ".join(span.split())
    yield from re.findall(r"^    (?! )(.+)$", text, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_what_it_names_is_in_the_code(page: Path) -> None:
    """Events, settings and words of a log: whatever is written as one word with underscores."""
    words = {
        span for span in spans(page.read_text()) if re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)+", span)
    }
    assert {word for word in words if not re.search(rf"\b{word}\b", code())} == set()


def commands(text: str) -> Iterator[list[str]]:
    """Calls of our own commands, as words; of a pipe or a chain each part."""
    for span in spans(text):
        bare = re.split(r"  +#|  +(?=[a-z(])", span)[0]
        for part in re.split(r" && | \| |; ", bare):
            if re.match(rf"({'|'.join(GROUPS)}) ", part.strip()):
                yield shlex.split(part.partition(" > ")[0])


def parse(words: list[str]) -> None:
    """As click would, without doing it; a choice in a manual stands for its first."""
    words = [
        PLACEHOLDERS.get(word.strip("[]").partition("|")[0], word.strip("[]")) for word in words
    ]
    group = GROUPS[words[0]]
    context = group.make_context(words[0], words[1:])
    name, *arguments = [*context._protected_args, *context.args]
    found = group.get_command(context, name)
    assert found is not None, f"{words[0]} has no command {name}"
    found.make_context(name, arguments, parent=context)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_its_commands_are_taken(page: Path) -> None:
    found = [*commands(page.read_text())]
    assert found
    for words in found:
        try:
            parse(words)
        except click.exceptions.Exit:  # --help
            pass
        except click.ClickException as error:
            pytest.fail(f"{' '.join(words)}: {error.format_message()}")


def events() -> set[str]:
    """Every name an operator logs an event by, where it stands in the code as a word."""
    found = set()
    for folder in ("operators", "sda_pipeline"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and node.args:
                    called = ast.unparse(node.func).rpartition(".")[2].lstrip("_")
                    first = node.args[0]
                    if called in {"event", "report"} and isinstance(first, ast.Constant):
                        found.add(str(first.value))
    return {name for name in found if re.fullmatch(r"[a-z_]+", name)}


def test_every_event_that_is_not_routine_is_in_a_runbook() -> None:
    text = "\n".join(path.read_text() for path in RUNBOOKS.glob("*.md"))
    assert len(events()) > 30
    lacking = {name for name in events() - ROUTINE if f"`{name}`" not in text}
    assert lacking == set()
    assert events() >= ROUTINE - {"disk_reserve_back"}


def test_the_example_for_kafka_and_s3_leaves_no_setting_out() -> None:
    path = RUNBOOKS / "topology-kafka-s3.yaml"
    found, text = load_topology(path), path.read_text()
    assert found.kafka.sasl
    assert found.kafka.tls
    assert found.s3 is not None
    settings = {field.name for kind in (KafkaSettings, S3Settings) for field in fields(kind)}
    assert {name for name in settings if not re.search(rf"\b{name}:", text)} == set()


def test_rights_are_told_for_everything_that_writes() -> None:
    """The pipeline only reads; ``sda-reprocess`` and ``sda-sim`` produce and create topics."""
    for text in (
        (ROOT / "README.md").read_text(),
        (RUNBOOKS / "topology-kafka-s3.yaml").read_text(),
    ):
        told = re.sub(r"\s+#?\s*", " ", text.partition("Rights")[2][:400])
        for word in ("sda-reprocess", "sda-sim", "Describe", "Write", "Create", "--target-topic"):
            assert word in told, word


def test_every_file_that_can_be_corrupt_has_its_advice() -> None:
    text = (RUNBOOKS / "README.md").read_text()
    advice = text.partition("## State corrupt (7)")[2].partition("\n## ")[0]
    files = (QUARANTINE, SENDINGS, EFFECTS, "alerts.sqlite")
    assert [name for name in files if f"- `{name}`: " not in advice] == []
    assert "another sda-reprocess has" in text
    assert "its schema version is" in text.partition("## Audit")[2]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_target_of_make_is_one(page: Path) -> None:
    targets = {*re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)}
    named = {*re.findall(r"(?:^    |`)make ([a-z0-9-]+)", page.read_text(), re.MULTILINE)}
    assert named <= targets
    if page.name == "README.md" and page.parent == ROOT:
        assert named >= {"run", "test", "test-kafka", "test-s3"}
        assert not re.search(r"^    make [^#]*, make ", page.read_text(), re.MULTILINE)
