"""Topologies for tests: the repository's own file, and copies with changes. Holds no test."""

from __future__ import annotations

from pathlib import Path

from sda_pipeline.topology import Topology, load_topology
from sda_pipeline.topology_parse import parse_topology

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "topology.yaml"


def repository_topology() -> Topology:
    return load_topology(FILE)


def changed(*replacements: tuple[str, str]) -> Topology:
    """The repository's topology with pieces of its text replaced, each of which must be there."""
    text = FILE.read_text()
    for old, new in replacements:
        assert old in text, old
        text = text.replace(old, new, 1)
    return parse_topology(text.encode(), FILE)
