"""``run``, ``record``, ``play`` as functions: read files, call the generators, send or write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import msgspec

from sda_pipeline.broker.connect import open_producer
from sda_pipeline.cli.sim.census import survey
from sda_pipeline.cli.sim.faults import FaultMix
from sda_pipeline.cli.sim.live import Pace, encounters_by, run_live
from sda_pipeline.cli.sim.live import play as play_live
from sda_pipeline.cli.sim.making import Report
from sda_pipeline.cli.sim.outfile import replacing
from sda_pipeline.cli.sim.recording import read_recording, write_lines
from sda_pipeline.cli.sim.scene import Scene, load_scene
from sda_pipeline.cli.sim.sending import Sender, Stop
from sda_pipeline.cli.sim.timeline import Timeline
from sda_pipeline.cli.sim.traffic import OBSERVED_TO_NS, Message, Options
from sda_pipeline.cli.sim.truth import Fault, TrafficNote, Truth, digest, write_truth
from sda_pipeline.clock import Clock
from sda_pipeline.errors import UsageError
from sda_pipeline.limits import SECOND_NS
from sda_pipeline.records.times import format_time
from sda_pipeline.topology import Topology, load_topology

RATE_DEFAULT = 100.0
Say = Callable[[str], None]


@dataclass(frozen=True)
class TrafficOptions:
    """``run`` and ``record``."""

    rate: float | None = None
    seed: int = 1
    truth: Path | None = None
    noise_free: bool = False
    on_catalogue: bool = False
    all_objects: bool = False
    truth_out: Path | None = None
    for_ns: int | None = None
    from_ns: int | None = None
    mix: FaultMix = field(default=FaultMix(0.0))

    def over(self, start_ns: int, end_ns: int | None) -> Options:
        """The generator's options for a span."""
        default = 0.0 if self.all_objects else RATE_DEFAULT
        return Options(
            self.seed, default if self.rate is None else self.rate, start_ns, end_ns,
            self.noise_free, self.all_objects,
        )  # fmt: skip


def run(path: Path, options: TrafficOptions, clock: Clock, say: Say) -> Report:
    """Observe live until the time is over or a signal comes."""
    if options.all_objects and options.for_ns is None:
        raise UsageError("run --all-objects", "its plan needs an end", "give --for, like --for 5m")
    topology = load_topology(path)
    scene, truth = load_scene(topology, options.truth, on_catalogue=options.on_catalogue)
    stop = Stop()
    stop.listen()
    producer = open_producer(topology.broker, kafka=topology.kafka)
    sender = Sender(producer, topology.broker_partitions, clock, stop, say)
    start = clock.wall_ns()
    end = None if options.for_ns is None else start + options.for_ns
    settings = options.over(start, end)
    timeline = Timeline(scene, settings, options.mix)
    try:
        ran = run_live(timeline, scene, start, end, Pace(sender, clock, stop, say))
    finally:
        sender.close()
    out = options.truth_out
    if out is None and ran.faults:
        out = topology.catalogue.with_name(topology.catalogue.name + ".run-truth.json")
    if out is not None:
        told = _told(
            truth, topology, scene=scene, settings=settings, options=options, end_ns=ran.ended_ns,
            counts=sender.sent,
        )  # fmt: skip
        write_truth(out, msgspec.structs.replace(told, faults=tuple(ran.faults)))
    seconds = (ran.ended_ns - start) / SECOND_NS
    return _traffic_report(
        f"sent in {seconds:.1f} s{' until stopped' if ran.stopped else ''}", sender.sent,
        len(ran.faults), encounters_by(scene, start, ran.ended_ns), out,
    )  # fmt: skip


def record(file: Path, path: Path, options: TrafficOptions) -> Report:
    """Write a finite span to a file."""
    topology = load_topology(path)
    scene, truth = load_scene(topology, options.truth, on_catalogue=options.on_catalogue)
    start, end = _span(options, truth)
    if truth is None:
        found = survey(scene.catalogue, scene.offsets, (start, end), scene.sites, scene.physics)
        scene = scene._replace(encounters=found)
    settings = options.over(start, end)
    counts: Counter[str] = Counter()
    faults: list[Fault] = []
    with replacing(file) as target:
        write_lines(target, _counted(Timeline(scene, settings, options.mix), counts, faults))
    out = options.truth_out or file.with_name(file.name + ".truth.json")
    told = _told(
        truth, topology, scene=scene, settings=settings, options=options, end_ns=end, counts=counts
    )
    write_truth(out, msgspec.structs.replace(told, faults=tuple(faults)))
    return _traffic_report(
        f"wrote {file}: {(end - start) / SECOND_NS:.0f} s from {format_time(start)}", counts,
        len(faults), encounters_by(scene, start, end), out,
    )  # fmt: skip


def _span(options: TrafficOptions, truth: Truth | None) -> tuple[int, int]:
    if options.from_ns is not None:
        start = options.from_ns
    elif truth is not None:
        start = truth.epoch_ns
    else:
        raise UsageError(
            "record", "without a truth file there is no T0", "give --from T and --for, like 60s"
        )
    if options.for_ns is not None:
        return start, start + options.for_ns
    if truth is None or truth.ends_ns + OBSERVED_TO_NS <= start:
        raise UsageError("record", "no encounter tells where to end", "give --for, like --for 60s")
    return start, truth.ends_ns + OBSERVED_TO_NS


def _counted(
    timeline: Timeline, counts: Counter[str], faults: list[Fault]
) -> Iterator[tuple[Message, bool]]:
    """(message, plain) in order, counted on the way. Corrupt values are written as raw bytes."""
    for due in timeline.drain():
        for message, fault in due:
            counts[message.topic] += 1
            if fault is not None:
                faults.append(fault)
            yield message, fault is None or fault.fault in {"duplicate", "late"}


def _told(
    truth: Truth | None,
    topology: Topology,
    *,
    scene: Scene,
    settings: Options,
    options: TrafficOptions,
    end_ns: int,
    counts: Counter[str],
) -> Truth:
    """The truth of a span of traffic: the catalogue's, and what was sent."""
    note = TrafficNote(
        start_ns=settings.start_ns, end_ns=end_ns, seed=settings.seed, rate=settings.rate,
        noise_free=settings.noise_free, on_catalogue=options.on_catalogue,
        all_objects=settings.all_objects, messages=dict(sorted(counts.items())),
    )  # fmt: skip
    if truth is None:
        truth = Truth(
            epoch=format_time(settings.start_ns), epoch_ns=settings.start_ns, ends_ns=end_ns,
            seed=settings.seed, objects=scene.catalogue.n, on_catalogue=True, offsets={},
            catalogue_sha256=digest(topology.catalogue.read_bytes()), encounters=scene.encounters,
        )  # fmt: skip
    return msgspec.structs.replace(truth, traffic=note)


def _traffic_report(
    what: str, sent: Counter[str], faults: int, encounters: int, truth: Path | None
) -> Report:
    total = sum(sent.values())
    by_topic = ", ".join(f"{topic} {count:,}" for topic, count in sorted(sent.items()))
    text = f"{what}: {total:,} messages ({by_topic or 'none'}), {faults:,} injected faults, "
    text += f"{encounters} encounters at TCA"
    text += f"; truth in {truth}" if truth else ""
    facts = {
        "messages": total, "by_topic": dict(sorted(sent.items())), "faults": faults,
        "encounters": encounters, "truth": str(truth) if truth else None,
    }  # fmt: skip
    return Report(text, facts)


def play(file: Path, path: Path, speed: float, clock: Clock, say: Say) -> Report:
    """Produce a recording."""
    topology = load_topology(path)
    messages = read_recording(file)
    first = next(messages, None)  # a wrong file is refused before anything is produced
    stop = Stop()
    stop.listen()
    producer = open_producer(topology.broker, kafka=topology.kafka)
    sender = Sender(producer, topology.broker_partitions, clock, stop, say)
    pace = Pace(sender, clock, stop, say)
    began = clock.monotonic_ns()
    try:
        if first is not None:
            size = file.stat().st_size
            play_live(
                chain([first], messages), size, None if speed == float("inf") else speed, pace
            )
    finally:
        sender.close()
    seconds = (clock.monotonic_ns() - began) / SECOND_NS
    total = sum(sender.sent.values())
    by_topic = ", ".join(f"{topic} {count:,}" for topic, count in sorted(sender.sent.items()))
    text = f"played {total:,} messages ({by_topic or 'none'}) in {seconds:.1f} s"
    text += " until stopped" if stop.asked else ""
    facts = {"messages": total, "by_topic": dict(sender.sent), "stopped": stop.asked}
    return Report(text, facts)
