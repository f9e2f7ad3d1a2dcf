"""Between every two numbered steps stands a failpoint, and the tables of failpoints are the code's
own. Reads source text; the kills themselves are in ``tests/process``.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from sda_pipeline.vocabulary import FAILPOINTS, RECOVERY_FAILPOINTS

ROOT = Path(__file__).resolve().parents[2]
STEPS_OF = {
    "source": "operators/source.py",
    "stateless": "operators/forward.py",
    "correlator": "operators/correlator.py",
    "alert-sink": "operators/alert_sink.py",
    "subscriber": "operators/subscriber.py",
    "dlq-sink": "operators/dlq_sink.py",
    "replicator": "sda_pipeline/state/snapshot.py",
    "upload": "sda_pipeline/state/remote.py",
    "reprocess": "sda_pipeline/cli/reprocess/redriving.py",
    "reprocess-migrate": "sda_pipeline/dlq/migration.py",
}
# Failpoints of a step that lies beside the numbered ones.
BESIDE = {
    "upload": ["operators/uploader.py", "operators/remote_horizon.py"],
    "reprocess": ["sda_pipeline/cli/reprocess/reprocess_commands.py"],
    "reprocess-migrate": ["sda_pipeline/dlq/files.py"],
}
# What each does until it goes on; every one of them passes Worker.ready.
RECOVERY_OF = {
    "source": ("operators/source_open.py", "operators/source.py"),
    "stateless": (),
    "correlator": ("sda_pipeline/state/recovery.py", "operators/correlator_open.py"),
    "alert-sink": ("operators/alert_sink.py",),
    "subscriber": ("operators/subscriber.py",),
    "dlq-sink": ("sda_pipeline/dlq/files.py",),
    "replicator": (),
}
READY = "sda_pipeline/runtime/worker.py"
NUMBERED = re.compile(r"# (\d)(-\d)? ")
CALLS = {"fail", "hit"}


def modules() -> list[str]:
    found = [p for name in ("operators", "sda_pipeline") for p in (ROOT / name).rglob("*.py")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def points_in(text: str) -> list[tuple[int, str]]:
    """Line and name of every literal passed to ``fail`` or ``hit``, without an operator's name."""
    return [
        (node.lineno, node.args[0].value.rpartition(".")[2])
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).split(".")[-1] in CALLS
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    ]


def names_in(*paths: str) -> set[str]:
    return {name for path in paths for _, name in points_in((ROOT / path).read_text())}


def is_recovery(name: str) -> bool:
    return name.startswith("recover")


class Step(NamedTuple):
    """One numbered comment, up to the next of its function or the function's end."""

    label: str
    first_line: int
    end_line: int
    elsewhere: bool  # a range, whose own function holds the steps


def steps_in(text: str) -> Iterator[Step]:
    """Every numbered step of every function."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    numbered = [
        (token.start[0], match)
        for token in tokens
        if token.type == tokenize.COMMENT and (match := NUMBERED.match(token.string))
    ]
    for function in ast.walk(ast.parse(text)):
        if isinstance(function, ast.FunctionDef):
            assert function.end_lineno is not None
            own = [(n, m) for n, m in numbered if function.lineno < n <= function.end_lineno]
            ends = [*(line for line, _ in own), function.end_lineno + 1][1:]
            for (line, match), end in zip(own, ends, strict=True):
                yield Step(f"{function.name} {match[0]}", line, end, bool(match[2]))


def bare_steps(text: str) -> list[str]:
    """Steps after which no failpoint stands before the next one begins."""
    lines = [line for line, _ in points_in(text)]
    return [
        step.label
        for step in steps_in(text)
        if not step.elsewhere and not any(step.first_line < line < step.end_line for line in lines)
    ]


@pytest.mark.parametrize("path", [*STEPS_OF.values(), "sda_pipeline/dlq/files.py"])
def test_a_failpoint_follows_every_numbered_step(path: str) -> None:
    text = (ROOT / path).read_text()
    assert len([*steps_in(text)]) >= 2
    assert bare_steps(text) == []


def test_numbered_steps_are_nowhere_else() -> None:
    found = {path for path in modules() if [*steps_in((ROOT / path).read_text())]}
    assert found == {*STEPS_OF.values(), "sda_pipeline/dlq/files.py"}


STEP = """
def step(worker):
    # 1 read
    read()
    worker.fail("after_read")
    # 2 write
    write()
    # 3 release
    release()
    worker.fail("after_release")
"""


def test_a_new_step_without_a_failpoint_is_seen() -> None:
    assert bare_steps(STEP) == ["step # 2 "]
    assert bare_steps(STEP.replace("write()", "write(); worker.fail('after_write')")) == []
    assert bare_steps(STEP.replace("    worker.fail(\"after_release\")\n", "")) == [
        "step # 2 ", "step # 3 "
    ]  # fmt: skip


@pytest.mark.parametrize("kind", STEPS_OF)
def test_the_table_of_failpoints_is_the_codes_own(kind: str) -> None:
    found = {
        name for name in names_in(STEPS_OF[kind], *BESIDE.get(kind, ())) if not is_recovery(name)
    }
    assert found == set(FAILPOINTS[kind])


@pytest.mark.parametrize("kind", RECOVERY_OF)
def test_the_table_of_recovery_failpoints_is_the_codes_own(kind: str) -> None:
    found = {name for name in names_in(READY, *RECOVERY_OF[kind]) if is_recovery(name)}
    assert found == set(RECOVERY_FAILPOINTS[kind])


def test_no_failpoint_is_in_no_table() -> None:
    known = {
        name for table in (FAILPOINTS, RECOVERY_FAILPOINTS) for v in table.values() for name in v
    }
    assert names_in(*modules()) == known
