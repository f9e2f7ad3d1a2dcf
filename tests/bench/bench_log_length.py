"""Whether a start takes longer behind a longer log: one segment of it against sixty.

A short live run is drained. Its logs are written again, the same records in many segments, and all
but the last of these are then given their full size by holes: what a start may not read costs
nothing to make, and reads as damage if it is read after all.
"""

from __future__ import annotations

import itertools
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from sda_pipeline.clock import Clock
from sda_pipeline.limits import GIB, SECOND_NS, SEGMENT_BYTES
from sda_pipeline.log.segments import list_segments
from sda_pipeline.log.source_log import LogStart, SourceLog, read_log
from sda_pipeline.state.recovery import LOGS
from tests.bench.bench_figures import Figure, shown, times
from tests.bench.bench_inputs import SEED, Say, make_catalogue, make_site
from tests.bench.bench_tree import BenchError, all_running, command, tree_of
from tests.process.site import Site

SEGMENTS = 60  # of 64 MiB: what 4 GiB of log are
TAIL = 12  # small ones behind them: what nobody has confirmed yet is read, and comes to 1 s of log
SAMPLES = 5
OBJECTS, MINUTES, PER_MINUTE = 500, 2.0, 30.0
RATE, LIVE_S = 600, 20.0  # a source logs a record every 50 ms or so
LOOK_EVERY_S = 0.01


def measure_log_length(root: Path, clock: Clock, say: Say) -> tuple[list[Figure], dict[str, Any]]:
    """Starts behind a short log and behind a long one, in turns. Figures and details."""
    short = make_site(root / "short")
    make_catalogue(short, OBJECTS, MINUTES, None, PER_MINUTE)
    with tree_of(short) as tree:
        tree.start()
        tree.wait(all_running, "every operator to be ready")
        with command(short, "sda-sim", "run", "--rate", str(RATE), "--seed", str(SEED)):
            clock.sleep(LIVE_S)
        tree.stop()
    shutil.copytree(short.root, root / "long", ignore=shutil.ignore_patterns("control.sock"))
    long = Site(root / "long")
    long.write_topology()
    logs = sorted((long.state / LOGS).iterdir())
    size = sum(map(_lengthen, logs))
    found: dict[str, list[float]] = {"short": [], "long": []}
    for _ in range(SAMPLES):
        for name, site in (("short", short), ("long", long)):
            found[name].append(_start(site, clock))
    say(f"starts in seconds: {found}")
    middle = {name: sorted(each)[SAMPLES // 2] for name, each in found.items()}
    note = (
        f"{shown(size / GIB)} GiB; {shown(times(middle['long'], middle['short']))} x "
        f"{middle['short']:.2f} s behind logs of one segment; medians of {SAMPLES}"
    )
    name = f"start behind three logs of {SEGMENTS} full segments, all ready"
    return [Figure(name, middle["long"], "s", note=note)], {"starts_s": found, "log_bytes": size}


def _start(site: Site, clock: Clock) -> float:
    """Seconds from the command to the last operator's READY."""
    with tree_of(site) as tree:
        began = tree.start()
        _, ready = tree.wait(all_running, "every operator to be ready", LOOK_EVERY_S)
        tree.stop()
    return (ready - began) / SECOND_NS


def _lengthen(directory: Path) -> int:
    """Write a log of one segment again in many, as large as they get; its bytes then."""
    whole = directory.with_name(f"{directory.name}.short")
    directory.rename(whole)
    old = read_log(whole)
    source, start = list_segments(whole)[0].header.source, LogStart(old.log_id, old.first)
    at_most = max(1, old.size_bytes // (2 * (SEGMENTS + TAIL)))
    with SourceLog.open(directory, source, start, segment_bytes=at_most) as log:
        for record in old.records(old.first):
            log.append(record.header, bytes(record.payload), record.rejects)
        log.sync()
    shutil.rmtree(whole)
    return _inflate(directory)


def _inflate(directory: Path) -> int:
    """Give SEGMENTS of them their full size, and say so in the header that follows each.

    Those before them go, as retention takes them.
    """
    found = list_segments(directory)
    if len(found) < SEGMENTS + TAIL:
        raise BenchError(f"{directory} has only {len(found)} segments: its records are too few")
    for segment in found[: -SEGMENTS - TAIL]:
        segment.path.unlink()
    found = found[-SEGMENTS - TAIL :]
    for segment, after in itertools.pairwise(found[: SEGMENTS + 1]):
        os.truncate(segment.path, SEGMENT_BYTES)
        with after.path.open("r+b") as file:
            file.write(replace(after.header, previous_bytes=SEGMENT_BYTES).pack())
    assert list_segments(directory)[0].path == found[0].path, "the chain holds"
    return sum(segment.path.stat().st_size for segment in found)
