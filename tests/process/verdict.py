"""What must be true of a finished pipeline, read from its files like an outsider.

Not how it got there.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import psutil

from sda_pipeline.records.alert import canonical
from supervisor.claim import holders
from tests.process.site import MARK, Site

# SPEC 5: effect -> (states it may follow, state after it)
LEGAL = {
    "raise": ({"none"}, "active"),
    "change": ({"active"}, "active"),
    "confirm": ({"active"}, "active"),
    "withdraw": ({"active"}, "withdrawn"),
    "reinstate": ({"withdrawn"}, "active"),
}


def finals(site: Site) -> dict[str, str]:
    """Canonical finals by alert id, from the sink's table."""
    done = site.run("sda-supervisor", "alerts", "--json", "--final", "--state", "state")
    records = [orjson.loads(line) for line in done.stdout.splitlines()]
    assert all(record["final"] and record["action"] == "insert" for record in records)
    return {record["alert_id"]: canonical(record) for record in records}


def ledger(site: Site) -> list[dict[str, Any]]:
    """The subscriber's action ledger, in order."""
    done = site.run("sda-supervisor", "effects", "--json", "--state", "state")
    return [orjson.loads(line) for line in done.stdout.splitlines()]


def ledger_faults(rows: list[dict[str, Any]]) -> list[str]:
    """Every way in which a ledger breaks the table of SPEC 5; none when effects happened exactly
    once.
    """
    faults = []
    state: dict[str, str] = {}
    level: dict[str, str | None] = {}
    sequences: dict[str, int] = {}
    raises = Counter(row["alert_id"] for row in rows if row["effect"] == "raise")
    faults += [f"{alert} raised {times} times" for alert, times in raises.items() if times > 1]
    applied = Counter((row["alert_id"], row["sequence"]) for row in rows)
    faults += [f"{key} applied {times} times" for key, times in applied.items() if times > 1]
    for row in rows:
        alert, effect = row["alert_id"], row["effect"]
        before, after = LEGAL[effect]
        if state.get(alert, "none") not in before:
            faults.append(f"{alert}: {effect} while {state.get(alert, 'none')}")
        if effect == "change" and row["level"] == level.get(alert):
            faults.append(f"{alert}: changed to the level it had")
        if effect == "confirm" and row["level"] != level.get(alert):
            faults.append(f"{alert}: confirmed another level")
        if row["sequence"] <= sequences.get(alert, 0):
            faults.append(f"{alert}: sequence {row['sequence']} after {sequences[alert]}")
        state[alert], level[alert], sequences[alert] = after, row["level"], row["sequence"]
    return faults


def audit_faults(site: Site) -> list[str]:
    """What ``sda-supervisor audit`` finds, including a residue that is not zero."""
    done = site.run("sda-supervisor", "audit", "--json", "--state", "state", check=False)
    report = orjson.loads(done.stdout)
    found = list(report["faults"])
    found += [f"{s['source']} residue {s['residue']}" for s in report["sources"] if s["residue"]]
    if bool(found) != (done.returncode != 0):
        found.append(f"audit exited {done.returncode} with faults {found}")
    return found


def check(site: Site, undisturbed: dict[str, str]) -> None:
    """All that every crash test asserts, after the pipeline has finished."""
    assert finals(site) == undisturbed, site.story()
    rows = ledger(site)
    assert ledger_faults(rows) == [], site.story()
    assert audit_faults(site) == [], site.story()
    confirmed = {row["alert_id"] for row in rows if row["final"] and row["level"]}
    assert confirmed == set(undisturbed), f"a final alert without effect:\n{site.story()}"
    assert left_behind(site) == [], site.story()


def left_behind(site: Site) -> list[str]:
    """What a pipeline that has ended may not leave: processes, shared memory, lock, socket."""
    found = [
        f"{process} {why}" for process in psutil.process_iter() if (why := ties(process, site))
    ]
    lock = site.state / "lock"
    found += [f"pid {pid} holds the lock" for pid in holders(lock)]
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found.append("the lock cannot be taken")
    socket = site.state / "control.sock"
    return found + [f"{socket} is there"] * socket.exists()


def ties(process: psutil.Process, site: Site) -> str:
    """Why a process belongs to a site; "" when it does not.

    Its rings and its board are memfds without a name that is its own: they pass by inheritance
    only, as the mark in the environment does, so who holds one of them is found by that.
    """
    if process.pid == os.getpid():
        return ""
    root = str(site.root)
    try:
        marked = process.environ().get(MARK) == root
        named = any(root in word for word in process.cmdline())
        here = Path(process.cwd()).is_relative_to(root)
        links = [str(fd.readlink()) for fd in Path(f"/proc/{process.pid}/fd").iterdir()]
    except (psutil.Error, OSError):  # it is gone
        return ""
    shared = [link for link in links if marked and link.startswith("/memfd:")]
    opened = [link for link in links if Path(link).is_relative_to(root)]
    return f"is left with {[*shared, *opened]}" if marked or named or here or opened else ""


def raw_ledger(site: Site) -> list[dict[str, Any]]:
    """The ledger straight from its file, for controls that break the store's own defences."""
    database = sqlite3.connect(site.root / "subscriber" / "subscriber.sqlite")
    database.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in database.execute("SELECT * FROM ledger ORDER BY id")]
    finally:
        database.close()
