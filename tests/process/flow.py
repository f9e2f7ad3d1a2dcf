"""A pipeline with traffic flowing into it, to be disturbed from outside. Not the disturbances."""

from __future__ import annotations

import os
import signal
import subprocess

from sda_pipeline.errors import SdaError
from sda_pipeline.limits import SECOND_NS
from supervisor.control import ask
from tests.process import verdict
from tests.process.site import EPOCH_NS, RECORDED_S, Site
from tests.process.waiting import wait_until

SEED = int(os.environ.get("SDA_SEED", "20261123"))
PLAY_SPEED = "15"  # 150 s of event time in 10 s
PLAYBACK = {"event_time": {"idle_after": "off"}}  # event time runs faster than the clock


class Run:
    """A running pipeline into which recorded traffic flows while a test disturbs it."""

    def __init__(self, site: Site, **changes: object) -> None:
        self.site = site
        site.write_topology(**PLAYBACK, **changes)
        self.schedule: list[str] = []
        self.start()

    def start(self) -> None:
        self.pipeline = self.site.start()
        wait_until(self.all_running, self.story)

    def play(self, recording: str = "traffic.jsonl") -> None:
        """Begin to play a recording into the broker."""
        self.traffic = subprocess.Popen(
            self.site.command("sda-sim", "play", recording, "--speed", PLAY_SPEED, "--json"),
            cwd=self.site.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def story(self) -> str:
        return f"SDA_SEED={SEED}\nschedule: {self.schedule}\n{self.site.story()}"

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

    def wait_for(self, share: float) -> None:
        wait_until(lambda: self.traffic.poll() is not None or self.share() >= share, self.story)

    def kill(self, operator: str) -> None:
        """SIGKILL to the operator as soon as it runs."""
        self.schedule.append(operator)
        wait_until(lambda: self.signalled(operator, signal.SIGKILL), self.story)

    def signalled(self, operator: str, number: signal.Signals) -> bool:
        """Send a signal if the operator runs right now."""
        found = self.operators().get(operator, {})
        if found.get("state") != "running" or not found.get("pid"):
            return False
        try:
            os.kill(int(str(found["pid"])), number)
        except ProcessLookupError:  # it died of an earlier kill; the status is a little older
            return False
        return True

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

    def finish(self, undisturbed: dict[str, str]) -> None:
        """Let the traffic end, stop, finish the finite input, check everything."""
        assert self.traffic.wait(120) == 0
        self.stop()
        self.site.finish()
        try:
            verdict.check(self.site, undisturbed)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.story()}") from error
