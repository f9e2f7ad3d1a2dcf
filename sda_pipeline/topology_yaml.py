"""Reading a YAML configuration file with line and column in every fault. Knows no key of ours.

Scalars are taken as the text they were written as, so ``1e-4`` is a number and ``off`` is a word,
whatever YAML 1.1 says. Faults are collected, not raised: a user corrects all of them in one go.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from typing import Any

import yaml

from sda_pipeline.errors import InvalidConfiguration
from sda_pipeline.limits import GIB, KIB, MIB

Node = yaml.Node  # a place in the file; others need not know YAML to pass one on

FILE_BYTES_MAX = 4 * MIB  # a configuration file; more is some other file given by mistake

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB)?")
_SIZE_UNITS = {None: 1, "B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB}
_NULLS = ("", "~", "null", "Null", "NULL")


class Reader:
    """One file and the faults found in it."""

    def __init__(self, data: bytes, file: str) -> None:
        self.file = file
        self.faults: list[str] = []
        self.root = Section(self, _compose(data, file, yaml.SafeLoader), "")

    def fault(self, node: yaml.Node | None, path: str, message: str) -> None:
        """Note a fault where ``node`` stands."""
        place = f"{self.file}:"
        if node is not None:
            place += f"{node.start_mark.line + 1}:{node.start_mark.column + 1}:"
        self.faults.append(f"{place} {path}: {message}" if path else f"{place} {message}")

    def finish(self, action: str) -> None:
        """InvalidConfiguration with every fault in the order of the file, if there is one."""
        if self.faults:
            hint = "correct it" if len(self.faults) == 1 else f"correct all {len(self.faults)}"
            raise InvalidConfiguration(action, sorted(self.faults, key=_by_line), hint)


class Section:
    """A mapping of the file. Each getter names a key; ``close`` reports keys nobody asked for."""

    def __init__(self, reader: Reader, node: yaml.Node | None, path: str) -> None:
        self.reader, self.node, self.path = reader, node, path
        self._values: dict[str, yaml.Node] = {}
        self._keys: dict[str, yaml.Node] = {}
        self._asked: set[str] = set()
        if isinstance(node, yaml.MappingNode):
            self._fill(node)
        elif node is not None and not _is_null(node):
            reader.fault(node, path, "must be a mapping of names to values")

    def _fill(self, node: yaml.MappingNode) -> None:
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name is None:
                self.reader.fault(key, self.path, "a key must be a plain name")
            elif name in self._keys:
                first = self._keys[name].start_mark.line + 1
                self.reader.fault(key, self.at(name), f"is given twice, first in line {first}")
            else:
                self._keys[name] = key
                if not _is_null(value):
                    self._values[name] = value

    def at(self, key: str) -> str:
        """The dotted path of a key, for messages."""
        return f"{self.path}.{key}" if self.path else key

    def place(self, key: str) -> yaml.Node | None:
        """Where a key's value stands; the section itself when it is absent."""
        return self._values.get(key, self.node)

    def fault(self, key: str, message: str) -> None:
        """Note a fault in the value of ``key``."""
        self.reader.fault(self.place(key), self.at(key), message)

    def has(self, key: str) -> bool:
        """Whether the key is there with a value. Counts as asking for it."""
        self._asked.add(key)
        return key in self._values

    def text(self, key: str, default: str | None = None, *, pattern: str = "") -> str:
        """A scalar as it was written; required when there is no default."""
        if not self.has(key):
            if default is None:
                self.fault(key, "is required")
            return default or ""
        node = self._values[key]
        if not isinstance(node, yaml.ScalarNode):
            self.fault(key, "must be a single value")
            return default or ""
        text = str(node.value)
        if pattern and not re.fullmatch(pattern, text):
            self.fault(key, f"{text!r} does not match {pattern}")
        return text

    def number(
        self, key: str, default: float, *, low: float = -math.inf, high: float = math.inf
    ) -> float:
        """A finite number within [low, high]."""
        if not self.has(key):
            return default
        text = self.text(key, "")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            self.fault(key, f"{text!r} is not a number")
            return default
        if not low <= value <= high:
            self.fault(key, f"{value:g} is not within {low:g} and {high:g}")
        return value

    def whole(self, key: str, default: int, *, low: int, high: int) -> int:
        """A whole number within [low, high]."""
        value = self.number(key, default, low=low, high=high)
        if value != int(value):
            self.fault(key, f"{value:g} is not a whole number")
        return int(value)

    def size(self, key: str, default: int, *, low: int = 0, high: int = 1 << 50) -> int:
        """Bytes, as a number or with one of the units B, KiB, MiB, GiB."""
        if not self.has(key):
            return default
        text = self.text(key, "")
        match = _SIZE.fullmatch(text)
        if match is None:
            self.fault(key, f"{text!r} is not a size; write bytes, or 16 MiB")
            return default
        value = round(float(match[1]) * _SIZE_UNITS[match[2]])
        if not low <= value <= high:
            self.fault(key, f"{value} bytes are not within {low} and {high}")
        return value

    def numbers(self, key: str, default: tuple[float, ...]) -> tuple[float, ...]:
        """A list of as many finite positive numbers as the default has."""
        if not self.has(key):
            return default
        try:
            values = tuple(float(text) for text, _ in self.texts(key))
        except ValueError:
            values = ()
        if len(values) != len(default) or not all(0 < value < math.inf for value in values):
            self.fault(key, f"must be a list of {len(default)} positive numbers")
            return default
        return values

    def choice(self, key: str, default: str | None, options: Sequence[str]) -> str:
        """One of a closed list of words."""
        text = self.text(key, default)
        if self.has(key) and text not in options:
            self.fault(key, f"{text!r} is not one of {', '.join(options)}{_near(text, options)}")
        return text

    def texts(self, key: str) -> list[tuple[str, yaml.Node]]:
        """A list of scalars, each with its node; empty when absent."""
        found: list[tuple[str, yaml.Node]] = []
        for node in self._items(key):
            if isinstance(node, yaml.ScalarNode):
                found.append((str(node.value), node))
            else:
                self.reader.fault(node, self.at(key), "must be a list of single values")
        return found

    def section(self, key: str) -> Section:
        """A mapping below this one; an absent one is empty."""
        self.has(key)
        return Section(self.reader, self._values.get(key, None), self.at(key))

    def sections(self, key: str) -> list[Section]:
        """A list of mappings."""
        return [
            Section(self.reader, node, f"{self.at(key)}[{i}]")
            for i, node in enumerate(self._items(key))
        ]

    def named_sections(self) -> list[tuple[str, Section]]:
        """Every key of this section as a section of its own."""
        return [(key, self.section(key)) for key in self._keys]

    def close(self) -> None:
        """Report the keys nobody asked for."""
        for key, node in self._keys.items():
            if key not in self._asked:
                near = _near(key, sorted(self._asked))
                self.reader.fault(node, self.at(key), f"is not known here{near}")

    def _items(self, key: str) -> list[yaml.Node]:
        if not self.has(key):
            return []
        node = self._values[key]
        if not isinstance(node, yaml.SequenceNode):
            self.fault(key, "must be a list")
            return []
        return list(node.value)


def load_mapping(data: bytes, file: str) -> dict[str, Any]:
    """A YAML mapping as plain values. InvalidConfiguration on bad YAML or a key given twice."""
    node = _compose(data, file, _NumberLoader)
    faults: list[str] = []
    try:
        _find_duplicates(node, file, faults)
    except RecursionError:
        faults = [f"{file}: it contains itself"]
    if not isinstance(node, yaml.MappingNode):
        faults.append(f"{file}:1:1: must be a mapping of names to values")
    if faults:
        raise InvalidConfiguration(f"read {file}", faults, "correct it")
    loader = _NumberLoader("")
    try:
        loaded: dict[str, Any] = loader.construct_document(node)
    except yaml.YAMLError as error:
        raise _yaml_fault(error, file) from error
    finally:
        loader.dispose()
    return loaded


class _NumberLoader(yaml.SafeLoader):
    """SafeLoader that reads ``1e-4`` as the number it is; YAML 1.1 wants a dot in it."""


_NumberLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _compose(data: bytes, file: str, loader: type[yaml.SafeLoader]) -> yaml.Node | None:
    if len(data) > FILE_BYTES_MAX:
        raise InvalidConfiguration(
            f"read {file}",
            [f"it has {len(data)} bytes, over {FILE_BYTES_MAX}"],
            "name another file",
        )
    try:
        return yaml.compose(data, Loader=loader)
    except yaml.YAMLError as error:
        raise _yaml_fault(error, file) from error
    except RecursionError as error:
        raise InvalidConfiguration(f"read {file}", ["it is nested too deeply"]) from error


def _yaml_fault(error: yaml.YAMLError, file: str) -> InvalidConfiguration:
    mark = getattr(error, "problem_mark", None)
    place = f"{file}:{mark.line + 1}:{mark.column + 1}:" if mark else f"{file}:"
    why = getattr(error, "problem", None) or str(error).splitlines()[0]
    return InvalidConfiguration(f"read {file}", [f"{place} {why}"], "correct the YAML there")


def _find_duplicates(node: yaml.Node | None, file: str, faults: list[str]) -> None:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _find_duplicates(item, file, faults)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                mark = key.start_mark
                faults.append(f"{file}:{mark.line + 1}:{mark.column + 1}: {name} is given twice")
            seen.add(name)
            _find_duplicates(value, file, faults)


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style is None and node.value in _NULLS


def _near(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}" if close else ""


def _by_line(fault: str) -> tuple[int, int]:
    numbers = re.search(r":(\d+):(\d+):", fault)
    return (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
