"""``python -m supervisor.leash PARENT COMMAND ...``: one of our commands, dying with its parent.

For tools that another of our processes starts. Operators need no leash, they see to it themselves.
"""

from __future__ import annotations

import sys
from importlib import import_module

from sda_pipeline.runtime.parent import die_with_parent

MODULES = {"sda-sim": "sda_pipeline.cli.sim.main", "sda-supervisor": "supervisor.cli"}


def main(arguments: list[str]) -> None:
    """Tie this process to ``PARENT`` (a pid), then become the command."""
    parent, command, *rest = arguments
    die_with_parent(int(parent))
    sys.argv = [command, *rest]
    import_module(MODULES[command]).main()


if __name__ == "__main__":
    main(sys.argv[1:])
