"""The supervisor as a real process over scripted operators: births, deaths, rewinds, drains, ends.

What it decides is tested in tests/unit/test_tree*.py; here it is what really happens to processes.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.process.fake_pipeline import FakePipeline
from tests.process.waiting import wait_until

pytestmark = pytest.mark.process

UPSTREAM = ("radar", "optical", "normalize", "prioritize", "correlator")


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[FakePipeline]:
    fake = FakePipeline(tmp_path)
    yield fake
    fake.kill_all()


def until(condition: object, fake: FakePipeline, within_s: float = 15) -> None:
    wait_until(condition, fake.story, within_s)  # type: ignore[arg-type]


def lives(fake: FakePipeline, name: str) -> int:
    return len(fake.trace(operator=name, what="born"))


def memfds(pid: int) -> set[str]:
    """The names of the shared memory a process has descriptors of."""
    links = [str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()]
    return {link.split(":")[1].split(" ")[0] for link in links if link.startswith("/memfd:")}


def test_start_and_drain_leave_nothing_behind(pipeline: FakePipeline) -> None:
    process = pipeline.start()
    until(pipeline.running, pipeline)
    assert (pipeline.state.stat().st_mode & 0o777) == 0o700
    assert ((pipeline.state / "control.sock").stat().st_mode & 0o777) == 0o600
    held = memfds(pipeline.operator("correlator")["pid"])
    assert held == {"board", "correlator->alert-sink", "prioritize->correlator"}
    done = json.loads(pipeline.cli("status", "--json").stdout)
    assert done["supervisor"] | {"pid": process.pid, "state": "running"} == done["supervisor"]
    assert {o["state"] for o in done["operators"]} == {"running"}

    os.kill(process.pid, signal.SIGINT)
    code, out, err = pipeline.end()
    assert (code, err) == (0, "")
    assert "running; Ctrl-C drains" in out
    assert "stopped after" in out.splitlines()[-1]
    assert pipeline.survivors() == []
    assert not (pipeline.state / "control.sock").exists()
    births = [line["operator"] for line in pipeline.trace(what="born")]
    before = births[: min(births.index("radar"), births.index("optical"))]
    assert {"subscriber", "alert-sink", "dlq-sink", "correlator"} <= set(before)
    ends = [line["operator"] for line in pipeline.trace(what="left")]
    assert set(ends[:2]) == {"radar", "optical"}
    assert ends[-1] == "subscriber"
    order = [ends.index(name) for name in ("normalize", "prioritize", "correlator", "alert-sink")]
    assert order == sorted(order)


def test_readiness_is_waited_for(pipeline: FakePipeline) -> None:
    pipeline.start({"alert-sink": {"*": ["wait go", "ready"]}})
    until(lambda: pipeline.trace(operator="normalize", what="ready"), pipeline)
    assert lives(pipeline, "alert-sink") == 1
    assert lives(pipeline, "correlator") == lives(pipeline, "radar") == 0
    (pipeline.root / "go").touch()
    until(pipeline.running, pipeline)


@pytest.mark.parametrize("control", [[], ["--early-successor"]])
def test_a_successor_starts_after_its_predecessor_is_dead(
    control: list[str], pipeline: FakePipeline
) -> None:
    pipeline.start({"correlator": {"1": ["ready", "slow 0.6"], "*": ["ready"]}}, *control)
    until(pipeline.running, pipeline)
    pipeline.cli("restart", "correlator")
    (second,) = pipeline.trace(operator="correlator", what="born", life=2)
    # The control breaks the rule; that the overlap is seen shows that this test can go red.
    assert second["overlap"] is bool(control)
    if not control:
        assert pipeline.operator("correlator")["restarts"] == 1
        assert lives(pipeline, "radar") == 1


def test_restart_with_kill_and_unknown_operator(pipeline: FakePipeline) -> None:
    pipeline.start()
    until(pipeline.running, pipeline)
    before = pipeline.operator("alert-sink")["pid"]
    pipeline.cli("restart", "alert-sink", "--kill")
    assert pipeline.operator("alert-sink")["pid"] != before
    assert pipeline.operator("alert-sink")["last_exit"] == "killed by SIGKILL"
    refused = pipeline.cli("restart", "sink", check=False)
    assert refused.returncode == 2
    assert refused.stderr.startswith("cannot restart sink: there is no such operator; there are")


def test_a_killed_operator_comes_back_alone_with_its_rings(pipeline: FakePipeline) -> None:
    pipeline.start({"normalize": {"1": ["ready", "kill"], "*": ["ready"]}})
    until(lambda: lives(pipeline, "normalize") == 2 and pipeline.running(), pipeline)
    first, second = pipeline.trace(operator="normalize", what="born")
    assert first["rings"] == second["rings"]
    assert not second["overlap"]
    assert all(lives(pipeline, name) == 1 for name in ("radar", "prioritize", "correlator"))


def test_a_spent_budget_stops_the_tree_and_says_why(pipeline: FakePipeline) -> None:
    pipeline.write(restart="backoff_s: 0.01, budget_deaths: 3")
    pipeline.start({"correlator": {"*": ["ready", "print boom", "exit 1"]}})
    code, _, err = pipeline.end()
    assert code == 6
    line, *details = err.splitlines()
    assert line.startswith("cannot keep correlator running: 3 deaths within 60 s, the last: exit")
    assert [text.strip() for text in details] == ["boom"]
    assert lives(pipeline, "correlator") == 3
    assert pipeline.survivors() == []


def test_a_refusal_is_the_supervisors_own(pipeline: FakePipeline) -> None:
    line = "cannot open x: it is damaged; restore it"
    pipeline.start({"alert-sink": {"*": [f"refuse 7 {line}"]}})
    assert pipeline.end()[::2] == (7, line + "\n")
    assert lives(pipeline, "alert-sink") == 1
    assert pipeline.survivors() == []


WORDS = "radar.applied radar.lag epoch sink_pos"


@pytest.mark.parametrize("control", [[], ["--kept-rings"]])
def test_a_rewind_renews_rings_and_words_upstream(
    control: list[str], pipeline: FakePipeline
) -> None:
    script = {
        "correlator": {
            "1": ["ready", "set radar.applied 5", "set epoch 7", "wait go", "exit 9"],
            "*": [f"words {WORDS}", "ready"],
        },
        "alert-sink": {"*": ["set sink_pos 9", "ready"]},
        "radar": {"1": ["set radar.lag 0", "publish radar->normalize", "ready"], "*": ["ready"]},
    }
    pipeline.start(script, *control)
    until(pipeline.running, pipeline)
    edges = {edge["name"]: edge["occupied_bytes"] for edge in pipeline.status()["edges"]}
    assert edges["radar->normalize"] > 0
    (pipeline.root / "go").touch()
    until(lambda: lives(pipeline, "radar") == 2 and pipeline.running(), pipeline)

    between = {"radar->normalize", "optical->normalize", "normalize->prioritize"}
    for name in UPSTREAM:
        first, second = pipeline.trace(operator=name, what="born")
        for edge, ring in second["rings"].items():
            renewed = edge in between or edge == "prioritize->correlator"
            # The control forgets the new rings, and the frame of the dead source is still there.
            assert (ring != first["rings"][edge]) == (renewed and not control), edge
    edges = {edge["name"]: edge["occupied_bytes"] for edge in pipeline.status()["edges"]}
    assert (edges["radar->normalize"] == 0) is not bool(control)
    words = pipeline.trace(what="words")[-1]["words"]
    if not control:
        assert words == {"radar.applied": 0, "radar.lag": 2**64 - 1, "epoch": 7, "sink_pos": 9}
        counted = pipeline.status()["supervisor"]
        assert (counted["rewinds"], counted["edge_rewinds_total"]) == (1, 1)
    for name in ("alert-sink", "subscriber", "dlq-sink", "replicator"):
        assert lives(pipeline, name) == 1


def test_a_fourth_rewind_within_a_minute_ends_in_exit_6(pipeline: FakePipeline) -> None:
    pipeline.start({"replicator": {"*": ["ready", "exit 9"]}})
    code, _, err = pipeline.end()
    assert code == 6
    assert err.startswith("cannot keep replicator running: 4 rewinds within a minute")


def test_a_hang_is_found_by_its_heartbeat(pipeline: FakePipeline) -> None:
    pipeline.write(limits="heartbeat_alert_s: 0.4, heartbeat_kill_s: 0.8, recovery_kill_s: 0.8")
    pipeline.start({"prioritize": {"1": ["ready", "hang"], "*": ["ready"]}})
    until(lambda: lives(pipeline, "prioritize") == 2 and pipeline.running(), pipeline)
    assert pipeline.journal("slow")[0]["step"] == "COMMIT"
    assert pipeline.journal("hung")[0]["operator"] == "prioritize"
    assert pipeline.operator("prioritize")["last_exit"] == "killed by SIGKILL, hung in COMMIT"


def test_a_stopped_operator_is_dead_before_its_successor_lives(pipeline: FakePipeline) -> None:
    pipeline.write(limits="heartbeat_alert_s: 0.4, heartbeat_kill_s: 0.8, recovery_kill_s: 0.8")
    pipeline.start()
    until(pipeline.running, pipeline)
    stopped = pipeline.operator("radar")["pid"]
    os.kill(stopped, signal.SIGSTOP)
    until(lambda: lives(pipeline, "radar") == 2 and pipeline.running(), pipeline)
    assert not psutil.pid_exists(stopped)
    assert not pipeline.trace(operator="radar", what="born", life=2)[0]["overlap"]


def test_stop_kills_what_is_left_at_the_deadline(pipeline: FakePipeline) -> None:
    pipeline.write(limits="drain_within_s: 0.5")
    pipeline.start({"correlator": {"*": ["ready", "hang"]}})
    until(pipeline.running, pipeline)
    assert pipeline.cli("stop").stdout == "stopped\n"
    code, out, _ = pipeline.end()
    assert code == 0
    assert "killing alert-sink, correlator, replicator, subscriber" in out.replace(
        "subscriber, alert-sink, correlator, replicator",
        "alert-sink, correlator, replicator, subscriber",
    )
    assert pipeline.survivors() == []


def test_a_second_ctrl_c_kills_and_stop_now_does_too(pipeline: FakePipeline) -> None:
    slow = {"correlator": {"*": ["ready", "hang"]}}
    process = pipeline.start(slow)
    until(pipeline.running, pipeline)
    os.kill(process.pid, signal.SIGINT)
    until(lambda: pipeline.status().get("supervisor", {}).get("state") == "draining", pipeline)
    os.kill(process.pid, signal.SIGINT)
    assert pipeline.end()[0] == 0

    pipeline.start(slow)
    until(pipeline.running, pipeline)
    pipeline.cli("stop", "--now")
    assert pipeline.end()[0] == 0
    assert pipeline.survivors() == []


def test_ctrl_c_of_a_terminal_is_the_supervisors_alone(pipeline: FakePipeline) -> None:
    process = pipeline.start()
    until(pipeline.running, pipeline)
    blocked = [line["blocked"] for line in pipeline.trace(what="born")]
    # Blocked from birth: an interpreter that is still starting would die of it.
    assert blocked == [[signal.SIGHUP, signal.SIGINT]] * 9
    os.killpg(process.pid, signal.SIGINT)  # a terminal signals the whole group
    assert pipeline.end()[0] == 0
    assert len(pipeline.trace(what="left")) == 9, "drained, not interrupted"
