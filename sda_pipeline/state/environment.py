"""The one place that opens LMDB environments, and that says what an LMDB error means.

Not a store: what is in an environment is its owner's business (the correlator's store, the embedded
broker). The rules of DESIGN 10 live here: every commit is synced, the map is never written through,
its size is fixed, readers that died are swept at every open, no environment crosses a fork.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import lmdb
import lmdb.verify

from sda_pipeline.errors import SdaError, StateCorrupt, Transient, Unreachable

DATA_FILE = "data.mdb"
FILE_MODE = 0o700  # of the directory; LMDB drops the execute bits for its files

_DAMAGE = (
    lmdb.BadChecksumError,
    lmdb.CorruptedError,
    lmdb.IncompatibleError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,
)


def open_environment(
    path: Path,
    *,
    map_size: int,
    readonly: bool = False,
    max_dbs: int = 0,
    create: bool = True,
    subdir: bool = True,
    max_readers: int = 126,
    lock: bool = True,
) -> lmdb.Environment:
    """Open (or create) the environment in directory ``path``; the caller closes it.

    Without ``subdir``, ``path`` is the data file itself. ``map_size`` in bytes is the most it can
    ever hold. What an earlier process left is synced before the return, so it may be published.
    Without ``lock`` no lock file is made: only for a file that nobody writes any more.
    A process opens an environment once, and never before a fork.
    StateCorrupt when the files are damaged, Unreachable when they cannot be used (missing and
    readonly or not ``create``, another user's, no space), SdaError when it is open here already.
    """
    action = f"open the LMDB environment {path}"
    try:
        environment = lmdb.Environment(
            str(path), map_size=map_size, readonly=readonly, max_dbs=max_dbs, create=create,
            subdir=subdir, mode=FILE_MODE, max_readers=max_readers,
            sync=True, metasync=True, writemap=False, lock=lock,
        )  # fmt: skip
    except lmdb.Error as error:
        raise lmdb_fault(action, error) from error
    except OSError as error:
        why = error.strerror or str(error)
        raise Unreachable(action, why, "check that the directory exists and is yours") from error
    try:
        _refuse_if_cut(path / DATA_FILE if subdir else path, environment, action)
        environment.reader_check()
        if not readonly:
            environment.sync(True)  # noqa: FBT003  a page that survived a kill is not on disk yet
    except lmdb.Error as error:
        environment.close()
        raise lmdb_fault(action, error) from error
    except BaseException:
        environment.close()
        raise
    return environment


def lmdb_fault(action: str, error: lmdb.Error) -> SdaError:
    """What an LMDB error means to the caller of ``action`` ("commit to PATH")."""
    text = str(error)
    if isinstance(error, lmdb.MapFullError):
        return Transient(action, "its map is full", "free entries or open it with a larger map")
    if isinstance(error, lmdb.VersionMismatchError) or "data format" in text:
        return StateCorrupt(action, "another LMDB format wrote it", "use the release that wrote it")
    if isinstance(error, _DAMAGE):
        return StateCorrupt(action, f"it is damaged ({text})", "move the directory aside")
    if "already open in this process" in text:
        return SdaError(
            action,
            "it is open already in this process or in the one this was forked from",
            "share the one handle, and fork before opening",
        )
    return Unreachable(action, text, "check that the directory exists, is yours and has space")


def damage_of(path: Path) -> list[str]:
    """Every structural fault of the environment in ``path``, found without opening it.

    Reads all pages in Python (about 80 MB in 0.1 s for 4 KB values); for files at rest. A flipped
    byte inside a stored value is not structure: values need a checksum of their own.
    """
    verify = cast("Callable[[str], list[str]]", lmdb.verify.verify)
    try:
        return list(verify(str(path)))
    except (lmdb.verify.VerifyError, OSError) as error:
        return [str(error)]


def _refuse_if_cut(file: Path, environment: lmdb.Environment, action: str) -> None:
    """A shortened file would kill the process with SIGBUS at the first touch of a missing page."""
    last_page = environment.info()["last_pgno"]  # before the size: both only grow
    size = file.stat().st_size
    if (last_page + 1) * environment.stat()["psize"] <= size:
        return
    # Pages that were never written may be absent from the end; the walk tells whether one is used.
    if faults := damage_of(file):
        raise StateCorrupt(
            action, f"its file is cut off at {size} bytes ({faults[0]})", "move the directory aside"
        )
