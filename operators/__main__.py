"""Entry point of every operator process: ``python -m operators NAME LAUNCH``. Started by the
supervisor only.
"""

from __future__ import annotations

import gc
import os

# What a start loads stays for life: the collector would walk it again and again (a third of the
# time that the catalogue takes). Worker.ready turns it on.
gc.disable()

# One thread a process: ten processes share few cores, and a library's thread pool would only
# contend.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import sys  # noqa: E402

import msgspec  # noqa: E402

from operators.registry import loop_of  # noqa: E402
from sda_pipeline.errors import ExitCode, UsageError  # noqa: E402
from sda_pipeline.runtime.launch import Launch  # noqa: E402
from sda_pipeline.runtime.worker import Worker, run_operator  # noqa: E402


def main(argv: list[str]) -> None:
    """Run the operator named in the launch argument."""
    try:
        _, name, text = argv
        launch = Launch.from_json(text)
    except (ValueError, msgspec.MsgspecError) as error:
        usage = UsageError("run an operator", str(error), "start it with sda-supervisor")
        print(usage, file=sys.stderr)  # noqa: T201
        sys.exit(ExitCode.USAGE)
    if launch.operator != name:
        print(UsageError("run an operator", f"{name} is not {launch.operator}"), file=sys.stderr)  # noqa: T201
        sys.exit(ExitCode.USAGE)

    def body(worker: Worker) -> None:
        loop_of(worker.kind)(worker)

    run_operator(launch, body)


main(sys.argv)
