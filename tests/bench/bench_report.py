"""What was measured as plain text and as JSON. Pure: no file is written here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.bench.bench_figures import Figure, shown

FORMAT = 1


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns under their heads: the first to the left, numbers to the right."""
    cells = [[*head], *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    right = [
        i > 0 and all(isinstance(row[i], int | float | None) for row in rows)
        for i in range(len(head))
    ]
    lines = []
    for row in [cells[0], ["-" * width for width in widths], *cells[1:]]:
        aligned = (
            f"{cell:>{width}}" if to_right else f"{cell:<{width}}"
            for cell, width, to_right in zip(row, widths, right, strict=True)
        )
        lines.append("  ".join(aligned).rstrip())
    return "\n".join(lines)


def _cell(value: object) -> str:
    return shown(value) if isinstance(value, int | float | None) else str(value)


def figures_table(figures: Sequence[Figure]) -> str:
    """Every figure next to its bar."""
    rows = [
        (f.name, shown(f.value), f.unit, f.bar, f.verdict, f.note) for f in figures
    ]  # fmt: skip
    return table(("figure", "value", "unit", "bar", "", ""), rows)


def operators_table(operators: Mapping[str, Mapping[str, Any]]) -> str:
    """CPU, memory and restarts by operator."""
    columns = (
        ("cpu_us_per_observation", "us CPU/obs"), ("nominal_core_percent", "% core at 10 K/s"),
        ("rss_mib", "RSS MiB"), ("private_mib", "private MiB"),
        ("restart_p50_s", "restart p50 s"), ("restart_p99_s", "restart p99 s"),
        ("ready_p50_s", "ready p50 s"), ("kills", "kills"),
    )  # fmt: skip
    used = [(key, title) for key, title in columns if any(key in row for row in operators.values())]
    rows = [(name, *(row.get(key) for key, _ in used)) for name, row in operators.items()]
    return table(("operator", *(title for _, title in used)), rows)


def sources_table(sources: Mapping[str, Mapping[str, Any]]) -> str:
    """What each source read, and how fast."""
    rows = [
        (name, row["observations"], row["seconds"], row["observations_per_s"])
        for name, row in sources.items()
    ]
    return table(("source", "observations", "seconds", "obs/s"), rows)


def document(
    machine: Mapping[str, Any],
    options: Mapping[str, Any],
    figures: Sequence[Figure],
    details: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of bench.json."""
    return {
        "format": FORMAT,
        "machine": dict(machine),
        "options": dict(options),
        "figures": [
            {
                "name": f.name, "value": f.value, "unit": f.unit, "at_least": f.at_least,
                "at_most": f.at_most, "verdict": f.verdict or None, "note": f.note or None,
            }
            for f in figures
        ],
        **details,
    }  # fmt: skip
