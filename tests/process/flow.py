"""A pipeline with traffic flowing into it, to be disturbed from outside. Not the disturbances."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection
from typing import NamedTuple

from sda_pipeline.errors import SdaError
from sda_pipeline.limits import SECOND_NS
from supervisor.control import ask
from tests.process import verdict
from tests.process.player import Player
from tests.process.site import CHOICES, EPOCH_NS, RECORDED_S, Site, kill_tree
from tests.process.waiting import wait_until

SEED = int(CHOICES)
WHOLE = "traffic.jsonl"
PLAY_SPEED = "15"  # 150 s of event time in 10 s
AHEAD = 0.03  # of the recording: so much traffic follows a moment before it waits for the next
PLAYBACK = {"event_time": {"idle_after": "off"}}  # event time runs faster than the clock


class Moment(NamedTuple):
    """Something done to a pipeline, and at which share of the traffic."""

    what: str
    share: float

    def __str__(self) -> str:
        return f"{self.what} at {self.share:.3f}"


def event_ms(share: float) -> float:
    """The message time at a share of the recording, ms."""
    return EPOCH_NS / 1e6 + 1e3 * RECORDED_S * share


class Run:
    """A running pipeline into which recorded traffic flows while a test disturbs it."""

    paced = True  # the traffic waits for the test, so that no moment of it comes too late

    def __init__(
        self, site: Site, *, speed: str = PLAY_SPEED, failpoints: str = "", **changes: object
    ) -> None:
        self.site, self.speed, self.failpoints = site, speed, failpoints
        site.write_topology(**(PLAYBACK | changes))
        self.schedule: list[str] = []  # of operators
        self.happened: list[Moment] = []
        self.players: list[Player] = []
        self.start()

    def start(self) -> None:
        self.pipeline = self.site.start(failpoints=self.failpoints)
        wait_until(self.all_running, self.story)

    def play(self, recording: str = WHOLE, speed: str = "") -> None:
        """Begin to play a recording into the broker, beside what plays already.

        The whole one waits for the test; a part of it, or one with a speed of its own, goes by the
        clock.
        """
        waits = self.paced and recording == WHOLE and not speed
        upto = event_ms(AHEAD) if waits else float("inf")
        self.traffic = Player(self.site, recording, float(speed or self.speed), upto)
        self.players.append(self.traffic)

    def story(self) -> str:
        happened = ", ".join(map(str, self.happened))
        return f"schedule: {happened}\n{self.site.story()}"

    def operators(self) -> dict[str, dict[str, object]]:
        try:
            found = ask(self.site.state, "status", "ask for the status")["operators"]
        except SdaError:
            return {}
        return {operator["name"]: operator for operator in found}

    def all_running(self) -> bool:
        operators = self.operators()
        return bool(operators) and all(o["state"] == "running" for o in operators.values())

    def share(self) -> float:
        """Which share of the recording's event time the radar source has reached."""
        words = ask(self.site.state, "board", "read the board")["words"]
        return (int(words["radar.watermark"]) - EPOCH_NS) / (RECORDED_S * SECOND_NS)

    def wait_for(self, share: float, ahead: float = AHEAD) -> None:
        """Until so much of the traffic is read, while more of it comes, as much as ``ahead``; fails
        at its end.
        """
        if self.paced:
            self.traffic.upto = event_ms(share + ahead)
        wait_until(lambda: self.traffic.poll() is not None or self.share() >= share, self.story)
        if self.paced:
            assert self.traffic.poll() is None, f"the traffic ended before {share}:\n{self.story()}"

    def kill(self, *operators: str) -> None:
        """SIGKILL to the operators at one instant, as soon as all of them run."""
        self.schedule += operators
        wait_until(lambda: self.signalled(operators, signal.SIGKILL), self.story)

    def signalled(self, operators: Collection[str], number: signal.Signals) -> bool:
        """Send a signal to all of them, if all run right now."""
        status = self.operators()
        found = [status.get(operator, {}) for operator in operators]
        if not all(each.get("state") == "running" and each.get("pid") for each in found):
            return False
        with contextlib.ExitStack() as closing:
            pidfds = []
            for each in found:
                try:
                    pidfds.append(os.pidfd_open(int(str(each["pid"]))))
                except ProcessLookupError:  # it died of an earlier kill; the status is older
                    return False
                closing.callback(os.close, pidfds[-1])
            for pidfd in pidfds:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, number)
        self.note(f"{number.name} to {' and '.join(operators)}")
        return True

    def close(self) -> None:
        """Send no more, whatever became of the test, and leave no child unwaited for."""
        for player in self.players:
            player.kill()
        if self.pipeline.poll() is None:
            kill_tree(self.pipeline)

    def note(self, what: str) -> None:
        """Remember what was done and at which moment."""
        self.happened.append(Moment(what, self.share()))

    def caught_up(self) -> bool:
        """Whether every source has logged all that its broker has, and the correlator has it."""
        try:
            words = ask(self.site.state, "board", "read the board")["words"]
        except SdaError:
            return False
        sources = ("radar", "optical", "isl")
        return all(
            words[f"{s}.lag"] == 0 and words[f"{s}.log_end"] == words[f"{s}.applied"]
            for s in sources
        )

    def stop(self) -> None:
        """Drain it, once everything runs."""
        wait_until(self.all_running, self.story)
        self.site.run("sda-supervisor", "stop", "--state", "state")
        assert self.pipeline.wait(60) == 0, self.story()

    def settle(self) -> None:
        """Let the traffic end, stop, finish the finite input."""
        assert {player.wait(120) for player in [*self.players, self.traffic]} == {0}
        self.stop()
        self.site.finish()

    def finish(self, undisturbed: dict[str, str]) -> None:
        """Settle, then check everything."""
        self.settle()
        try:
            verdict.check(self.site, undisturbed)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.story()}") from error
