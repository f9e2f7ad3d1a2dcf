"""Where fetched servers lie: one directory outside the repository, filled by one process at a time.

A thing is made in a staging directory and renamed into place, so what has its name is complete.
Not how anything is fetched: see recipes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from sda_pipeline.errors import Unreachable

FETCH = "run `make infra`"
REQUIRE = ("CI", "SDA_REQUIRE_INFRA")
FETCH_WITHIN_S = 900.0
_TAIL_LINES = 12


def cache_root() -> Path:
    """``$SDA_INFRA_CACHE``, else ``sda-pipeline`` in the user's cache directory."""
    chosen = os.environ.get("SDA_INFRA_CACHE")
    if chosen:
        return Path(chosen).resolve()
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser().resolve() / "sda-pipeline"


def infra_is_required() -> bool:
    """Whether a missing server is a failure (CI) and not a reason to skip (a laptop)."""
    return any(os.environ.get(name, "").lower() not in {"", "0", "false"} for name in REQUIRE)


def say(text: str) -> None:
    """One line of progress."""
    print(f"infra: {text}", flush=True)


@contextlib.contextmanager
def filling(root: Path) -> Iterator[None]:
    """Hold the cache's lock; a second process waits and then finds the work done."""
    action = f"write the cache {root}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = os.open(root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unreachable(action, str(error), "set SDA_INFRA_CACHE to a directory") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is fetching; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def make(target: Path, build: Callable[[Path], None]) -> None:
    """Fill ``target`` by ``build(staging)``; replaces what is there. Call inside ``filling``."""
    for left_over in target.parent.glob(f".{target.name}.*"):  # of a fetch that was killed
        shutil.rmtree(left_over, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        build(staging)
        shutil.rmtree(target, ignore_errors=True)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def pinned(listing: Path) -> dict[str, str]:
    """File name -> SHA-256, from a list as ``sha256sum`` prints it."""
    pairs = (line.split() for line in listing.read_text().splitlines())
    return {name: digest for digest, name in pairs}


def damaged(directory: Path, wanted: Mapping[str, str]) -> list[str]:
    """What is wrong with the files of ``directory``: missing, not wanted, or other bytes."""
    found = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
    faults = [f"{name} is missing" for name in sorted(wanted.keys() - found)]
    faults += [f"{name} is not on the list" for name in sorted(found - wanted.keys())]
    for name in sorted(wanted.keys() & found):
        if sha256(directory / name) != wanted[name]:
            faults.append(f"{name} has another SHA-256")
    return faults


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run(action: str, argv: Sequence[str], within_s: float, hint: str, **environment: str) -> str:
    """Run a package client to its end; its last lines are the reason when it fails."""
    try:
        done = subprocess.run(
            argv, env={**os.environ, **environment}, text=True, timeout=within_s, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise Unreachable(action, f"{argv[0]} took longer than {within_s:.0f} s", hint) from error
    except OSError as error:
        raise Unreachable(action, f"{argv[0]}: {error.strerror}", hint) from error
    if done.returncode != 0:
        last = " | ".join(done.stdout.strip().splitlines()[-_TAIL_LINES:]) or "it printed nothing"
        raise Unreachable(action, f"{argv[0]} exited {done.returncode}: {last}", hint)
    return done.stdout


def tool(action: str, name: str, hint: str) -> str:
    """Path of a program of this machine, or an error that says what to install."""
    path = shutil.which(name)
    if path is None:
        raise Unreachable(action, f"this machine has no `{name}`", hint)
    return path


class NotFetched(Unreachable):
    """The cache lacks a server that somebody wants to start."""

    def __init__(self, what: str) -> None:
        super().__init__(f"start {what}", f"it is not in {cache_root()}", FETCH)
