"""``make run-kafka``: the demo of ``make run``, on a real Kafka and a real S3 store.

Run by ``python -m tests.servers run``, which starts both and says where they are. It writes a
topology of its own from the example for one's own servers, then becomes the demo.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sda_pipeline.errors import ExitCode

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "runbooks" / "topology-kafka-s3.yaml"


def own_topology(example: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """The example with these servers in it, and files beside it."""
    document: dict[str, Any] = yaml.safe_load(example)
    remote = {
        "bucket": environment["S3_BUCKET"],
        "prefix": "demo",
        "endpoint": environment["S3_ENDPOINT"],
    }
    return document | {
        "pipeline": "demo",
        "state": "state",
        "subscriber": {"path": "subscriber"},
        "broker": f"kafka://{environment['KAFKA_BOOTSTRAP']}",
        "kafka": {"security": "plaintext"},
        "checkpoint": {"every_s": 10, "s3": remote},
        "catalogue": "catalogue.tle",
        "sensors": str(ROOT / "sensors.yaml"),
    }


def main(arguments: list[str]) -> int:
    """Write ``DIRECTORY/topology.yaml`` and run the demo on it."""
    if len(arguments) != 2:
        print("cannot run the demo: no directory; use make run-kafka", file=sys.stderr)
        return ExitCode.USAGE
    directory = Path(arguments[1])
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / "topology.yaml"
    document = own_topology(EXAMPLE.read_text(), os.environ)
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    tool = Path(sys.executable).parent / "sda-supervisor"
    return os.execv(tool, [str(tool), "demo", str(path)])


if __name__ == "__main__":
    sys.exit(main(sys.argv))
