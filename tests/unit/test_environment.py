"""Opening LMDB: the rules hold, and every way it fails has a clear line."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from sda_pipeline.errors import SdaError, StateCorrupt, Transient, Unreachable
from sda_pipeline.state.environment import damage_of, lmdb_fault, open_environment

MAP = 1 << 24


def _filled(path: Path, entries: int = 200) -> None:
    with open_environment(path, map_size=MAP) as environment, environment.begin(write=True) as txn:
        for number in range(entries):
            txn.put(b"%08d" % number, bytes([number % 251]) * 1000)


def _corrupt(path: Path, at: int, data: bytes) -> None:
    with (path / "data.mdb").open("r+b") as file:
        file.seek(at)
        file.write(data)


def test_the_rules_hold(tmp_path: Path) -> None:
    with open_environment(tmp_path / "env", map_size=MAP) as environment:
        flags = environment.flags()
        assert flags["sync"]
        assert flags["metasync"]
        assert flags["lock"]
        assert not flags["writemap"]
        assert environment.info()["map_size"] == MAP
    assert (tmp_path / "env").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "env" / "data.mdb").stat().st_mode & 0o777 == 0o600


def test_what_was_written_is_there_after_reopening(tmp_path: Path) -> None:
    _filled(tmp_path)
    with open_environment(tmp_path, map_size=MAP, readonly=True) as environment:
        with environment.begin() as txn:
            assert txn.get(b"00000007") == bytes([7]) * 1000
        with pytest.raises(lmdb.ReadonlyError):
            environment.begin(write=True)


def test_a_single_file_environment(tmp_path: Path) -> None:
    path = tmp_path / "copy.snap"
    with (
        open_environment(path, map_size=MAP, subdir=False) as environment,
        environment.begin(write=True) as txn,
    ):
        txn.put(b"k", b"v" * 9000)
    assert damage_of(path) == []
    os.truncate(path, 3 * 4096)
    with pytest.raises(StateCorrupt, match="cut off"):
        open_environment(path, map_size=MAP, subdir=False, readonly=True)


def test_opening_twice_is_refused_clearly(tmp_path: Path) -> None:
    clear = r"open already in this process .*; share the one handle"
    with open_environment(tmp_path, map_size=MAP), pytest.raises(SdaError, match=clear):
        open_environment(tmp_path, map_size=MAP)
    open_environment(tmp_path, map_size=MAP).close()


def test_a_missing_environment(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="No such file"):
        open_environment(tmp_path / "env", map_size=MAP, readonly=True)
    with pytest.raises(Unreachable, match="No such file"):
        open_environment(tmp_path / "no" / "env", map_size=MAP)


def test_a_file_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("")
    with pytest.raises(Unreachable, match=r"cannot open the LMDB environment .*env: .*; check"):
        open_environment(tmp_path / "env", map_size=MAP)


def test_garbage_is_damage(tmp_path: Path) -> None:
    _filled(tmp_path)
    _corrupt(tmp_path, 0, os.urandom(8192))
    with pytest.raises(StateCorrupt, match=r"damaged .*; move the directory aside"):
        open_environment(tmp_path, map_size=MAP)


def test_another_format_version(tmp_path: Path) -> None:
    _filled(tmp_path)
    for meta_page in (0, 4096):
        _corrupt(tmp_path, meta_page + 20, (9).to_bytes(4, "little"))
    with pytest.raises(StateCorrupt, match="use the release that wrote it"):
        open_environment(tmp_path, map_size=MAP)


@pytest.mark.parametrize("part", [0.2, 0.5, 0.99])
def test_a_cut_file_is_refused_instead_of_a_bus_error(tmp_path: Path, part: float) -> None:
    _filled(tmp_path)
    size = (tmp_path / "data.mdb").stat().st_size
    os.truncate(tmp_path / "data.mdb", int(size * part) // 4096 * 4096)
    with pytest.raises(StateCorrupt, match="cut off at"):
        open_environment(tmp_path, map_size=MAP)


def test_without_the_check_a_cut_file_kills_the_process(tmp_path: Path) -> None:
    """The control: this is what the refusal protects from."""
    _filled(tmp_path)
    os.truncate(tmp_path / "data.mdb", 8192)
    code = f"import lmdb\nlmdb.open({str(tmp_path)!r}).begin().get(b'00000007')"
    died = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert died.returncode == -signal.SIGBUS


def test_unwritten_pages_at_the_end_are_not_damage(tmp_path: Path) -> None:
    with open_environment(tmp_path, map_size=MAP) as environment:
        with environment.begin(write=True) as txn:
            txn.put(b"kept", b"v")
        with environment.begin(write=True) as txn:
            txn.put(b"gone", b"v" * 100_000)
        with environment.begin(write=True) as txn:
            txn.delete(b"gone")
        for _ in range(4):  # the live pages move into the freed ones
            with environment.begin(write=True) as txn:
                txn.put(b"kept", b"v")
        used = environment.stat()["psize"] * (environment.info()["last_pgno"] + 1)
    file = tmp_path / "data.mdb"
    assert file.stat().st_size == used
    copy = tmp_path / "copy"
    harmless = 0
    for size in range(used - 4096, 0, -4096):
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        shutil.copy(file, copy)
        os.truncate(copy / "data.mdb", size)
        if damage_of(copy):
            with pytest.raises(StateCorrupt, match="cut off"):
                open_environment(copy, map_size=MAP)
            break
        with open_environment(copy, map_size=MAP) as environment, environment.begin() as txn:
            assert txn.get(b"kept") == b"v"
        harmless += 1
    assert harmless > 0


def test_damage_inside_is_named(tmp_path: Path) -> None:
    _filled(tmp_path)
    assert damage_of(tmp_path) == []
    _corrupt(tmp_path, 5 * 4096, os.urandom(4096))
    assert damage_of(tmp_path)
    assert damage_of(tmp_path / "missing")


def test_a_reader_killed_inside_a_transaction_is_swept(tmp_path: Path) -> None:
    _filled(tmp_path, 5)
    reading = f"import lmdb, os, sys\ntxn = lmdb.open({str(tmp_path)!r}).begin()\n"
    alive = subprocess.Popen(  # while one process has it open, LMDB does not sweep by itself
        [sys.executable, "-c", reading + "print('on', flush=True)\nsys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert alive.stdout is not None
    assert alive.stdin is not None
    with alive, alive.stdout as output, alive.stdin as hold:
        output.readline()
        subprocess.run([sys.executable, "-c", reading + "os.kill(os.getpid(), 9)"], check=False)
        with open_environment(tmp_path, map_size=MAP) as environment:
            assert environment.reader_check() == 0, "the open has swept already"
            assert environment.readers().count("\n") == 2, "a heading and the living reader"
        hold.close()


def test_a_full_map_is_transient(tmp_path: Path) -> None:
    with open_environment(tmp_path, map_size=1 << 16) as environment:
        txn = environment.begin(write=True)
        with pytest.raises(lmdb.MapFullError) as caught:
            txn.put(b"key", bytes(1 << 17))
        txn.abort()
        fault = lmdb_fault("write X", caught.value)
    assert isinstance(fault, Transient)
    assert str(fault).startswith("cannot write X: its map is full; ")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (lmdb.CorruptedError("x"), StateCorrupt),
        (lmdb.PageNotFoundError("x"), StateCorrupt),
        (lmdb.PanicError("x"), StateCorrupt),
        (lmdb.VersionMismatchError("x"), StateCorrupt),
        (lmdb.DiskError("x"), Unreachable),
        (lmdb.Error("Input/output error", 5), Unreachable),
    ],
)
def test_errors_are_sorted_by_what_to_do(error: lmdb.Error, kind: type[SdaError]) -> None:
    assert type(lmdb_fault("commit", error)) is kind
