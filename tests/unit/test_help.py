"""``--help`` of every command: what it does, what each option means, how it may end."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest

from sda_pipeline.cli.reprocess.reprocess_cli import cli as reprocess
from sda_pipeline.cli.sim.main import cli as sim
from sda_pipeline.errors import ExitCode
from supervisor.cli import cli as supervisor

GROUPS = {"sda-supervisor": supervisor, "sda-sim": sim, "sda-reprocess": reprocess}
# What the group's help must name; the others cannot happen there.
CODES = {
    "sda-supervisor": set(ExitCode) - {ExitCode.REWIND},
    "sda-sim": {0, 1, 2, 3, 7, 8},
    "sda-reprocess": {0, 1, 2, 3, 4, 7, 8},
}
VAGUE = "see each command"


def commands() -> Iterator[tuple[str, click.Command]]:
    for group, found in GROUPS.items():
        yield group, found
        for name, command in found.commands.items():
            yield f"{group} {name}", command


@pytest.mark.parametrize(("name", "command"), [*commands()], ids=[name for name, _ in commands()])
def test_every_option_says_what_it_means(name: str, command: click.Command) -> None:
    text = command.get_help(click.Context(command, info_name=name))
    assert re.search(r"^  [A-Z][^\n]+", text, re.MULTILINE), "it says what the command does"
    assert VAGUE not in text
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name
            assert option.help.rstrip()[-1] in ".])", (option.name, option.help)
            assert option.opts[0] in text


@pytest.mark.parametrize("name", GROUPS)
def test_how_it_may_end(name: str) -> None:
    text = GROUPS[name].get_help(click.Context(GROUPS[name], info_name=name))
    told = " ".join(text.partition("Exit codes:")[2].partition("Options:")[0].split())
    assert {int(code) for code in re.findall(r"(?:^|, )(\d) ", told)} == CODES[name]


@pytest.mark.parametrize("name", GROUPS)
def test_its_examples_are_commands_it_takes(name: str) -> None:
    group = GROUPS[name]
    text = group.get_help(click.Context(group, info_name=name))
    found = re.findall(rf"^ +{name} ([a-z]+)", text, re.MULTILINE)
    assert len(found) >= 4
    assert {*found} <= {*group.commands}
