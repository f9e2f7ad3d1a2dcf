"""House rules that a reader would otherwise have to police.

Reads files only; runs in about a second.
"""

from __future__ import annotations

import ast
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("sda_pipeline", "operators", "supervisor", "tests")
FILE_LINES_MAX, FUNCTION_LINES_MAX = 300, 60
SHARED_NAMES = {"__init__.py", "__main__.py", "conftest.py"}
UNFINISHED = "TO" + "DO"

# What may be imported in one place only: the door to it.
DOORS = {
    "mmap": {"sda_pipeline/ring/memory.py"},
    "subprocess": {"supervisor/process.py"},
    "yaml": {"sda_pipeline/topology_yaml.py"},
    "pickle": set(),
    "boto3": {"sda_pipeline/state/replica.py"},
    "botocore": {"sda_pipeline/state/replica.py"},
    "confluent_kafka": {
        f"sda_pipeline/broker/{name}.py"
        for name in ("kafka_admin", "kafka_fetch", "kafka_group", "kafka_producer")
    },
}
# What may be called in one place only.
CALLS = {
    "lmdb.open": {"sda_pipeline/state/environment.py"},
    "lmdb.Environment": {"sda_pipeline/state/environment.py"},
    "struct.pack_into": set(),
}


def python_files() -> list[Path]:
    return sorted(p for name in PACKAGES for p in (ROOT / name).rglob("*.py"))


def source_files() -> list[Path]:
    return [p for p in python_files() if p.relative_to(ROOT).parts[0] != "tests"]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", python_files(), ids=relative)
def test_file_is_short_and_says_what_it_is_for(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) <= FILE_LINES_MAX, f"{relative(path)}: split it by purpose"
    assert ast.get_docstring(tree), f"{relative(path)}: say what it is for and what it is not"
    assert UNFINISHED not in text, f"{relative(path)}: finish it or open an issue"
    for function in functions(tree):
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        assert lines <= FUNCTION_LINES_MAX, f"{relative(path)}:{function.lineno} {function.name}"


@pytest.mark.parametrize("path", source_files(), ids=relative)
def test_one_door_each(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for module in set(imported(tree)) & DOORS.keys():
        assert relative(path) in DOORS[module], f"{relative(path)} imports {module}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert relative(path) in CALLS.get(called, {relative(path)}), (
                f"{relative(path)}: {called}"
            )


def test_basenames_are_unique() -> None:
    names = Counter(p.name for p in python_files() if p.name not in SHARED_NAMES)
    assert [name for name, count in names.items() if count > 1] == []


def test_packages_are_all_listed_for_the_build() -> None:
    listed = (ROOT / "pyproject.toml").read_text()
    for init in (p for p in source_files() if p.name == "__init__.py"):
        package = relative(init.parent).replace("/", ".")
        assert f'"{package}"' in listed, f"{package} is missing in pyproject.toml"


def test_no_machine_path_and_no_secret_in_any_tracked_file() -> None:
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    suspicious = ("/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/", "PRIVATE" + " KEY")
    for name in filter(None, listing.stdout.split("\0")):
        path = ROOT / name
        if not path.is_file():
            continue
        text = path.read_text(errors="replace")
        assert not [word for word in suspicious if word in text], name
