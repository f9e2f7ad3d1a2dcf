"""Retained rows by object and pane, deduplicated and folded (SPEC 5). Not which rows are retained.

The result of any insertion order is the same set, sorted by (t, id), hence the same fold to the
bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sda_pipeline.astro.fusion import segment_fold, transport_info
from sda_pipeline.limits import PANE_NS, SECOND_NS
from sda_pipeline.records.rows import ROW, Rows

Key = tuple[int, int]  # (object index, pane)
_WHOLE = np.dtype((np.void, ROW.itemsize))


@dataclass(frozen=True, slots=True)
class Fold:
    """S(X, j): information at the pane's end, how many rows, and the newest ingest among them."""

    columns: npt.NDArray[np.float64]  # (27,): L (21), b (6)
    count: int
    ingest: int


def _content(row: Rows) -> bytes:
    """What decides between two rows of one observation: the smallest of these bytes wins."""
    return b"".join(row[name].tobytes() for name in ("t", "kind", "sensor", "info", "vec"))


def _joined(groups: Sequence[Rows]) -> Rows:
    """Rows one after the other; as plain bytes, since numpy would compare every field's type."""
    return np.concatenate([group.view(_WHOLE) for group in groups]).view(ROW)


def _taken(rows: Rows, order: npt.NDArray[np.intp]) -> Rows:
    """These rows; as plain bytes, since numpy would copy field by field (measured: 8 times)."""
    taken: Rows = rows.view(_WHOLE)[order].view(ROW)
    return taken


def _unique(rows: Rows) -> Rows:
    """Rows of one object and pane, one per id, sorted by (t, id)."""
    if len(rows) == 1:
        return rows
    order = np.lexsort((rows["id"][:, 1], rows["id"][:, 0]))
    rows = _taken(rows, order)
    same = np.all(rows["id"][1:] == rows["id"][:-1], axis=1)
    if same.any():
        best: dict[bytes, int] = {}
        for at in range(len(rows)):
            name = rows["id"][at].tobytes()
            if name not in best or _content(rows[at]) < _content(rows[best[name]]):
                best[name] = at
        rows = rows[sorted(best.values())]
    return _taken(rows, np.lexsort((rows["id"][:, 1], rows["id"][:, 0], rows["t"])))


class Window:
    """Every row an open encounter can still use."""

    def __init__(self) -> None:
        self._rows: dict[Key, Rows] = {}
        self._folds: dict[Key, Fold] = {}

    def insert(self, index: npt.NDArray[np.int64], rows: Rows) -> tuple[int, set[Key]]:
        """Add rows (m,) of the objects ``index`` (m,).

        Returns how many are new, and the keys changed.
        """
        pane = rows["t"] // PANE_NS
        order = np.lexsort((pane, index))
        index, pane, rows = index[order], pane[order], _taken(rows, order)
        starts = np.flatnonzero(
            np.r_[True, (index[1:] != index[:-1]) | (pane[1:] != pane[:-1])]
        ).tolist()
        added, changed = 0, set()
        for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
            key = (int(index[start]), int(pane[start]))
            before = self._rows.get(key)
            group = rows[start:end] if before is None else _joined((before, rows[start:end]))
            after = _unique(group)
            added += len(after) - (0 if before is None else len(before))
            if before is None or after.tobytes() != before.tobytes():
                self._rows[key] = after
                self._folds.pop(key, None)
                changed.add(key)
        return added, changed

    def rows_of(self, index: int, panes: Iterable[int]) -> Rows:
        """The rows of an object in these panes, in their order."""
        found = [self._rows[index, pane] for pane in panes if (index, pane) in self._rows]
        return _joined(found) if found else np.empty(0, ROW)

    def has(self, index: int, pane: int) -> bool:
        """Whether an object was observed in a pane."""
        return (index, pane) in self._rows

    def fold(self, keys: Iterable[Key]) -> None:
        """Compute the missing folds of these keys in one vectorised pass, each whole."""
        missing = [
            key for key in dict.fromkeys(keys) if key in self._rows and key not in self._folds
        ]
        if not missing:
            return
        groups = [self._rows[key] for key in missing]
        rows = _joined(groups)
        segment = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
        ends = np.repeat([(pane + 1) * PANE_NS for _, pane in missing], [len(g) for g in groups])
        dt = (rows["t"] - ends) / float(SECOND_NS)
        info, vec = transport_info(rows["info"], rows["vec"], dt)
        folds = segment_fold(segment, len(groups), np.concatenate((info, vec), axis=1))
        for at, (key, group) in enumerate(zip(missing, groups, strict=True)):
            self._folds[key] = Fold(folds[at], len(group), int(group["ingest"].max()))

    def folded(self, key: Key) -> Fold | None:
        """S(X, j), or None when the object was not observed in that pane. ``fold`` comes first."""
        return self._folds.get(key)

    def forget_before(self, pane: int) -> None:
        """Drop the rows no open encounter can use."""
        for key in [key for key in self._rows if key[1] < pane]:
            del self._rows[key]
            self._folds.pop(key, None)

    def keys(self) -> Sequence[Key]:
        """Every (object, pane) with rows."""
        return list(self._rows)
