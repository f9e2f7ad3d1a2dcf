"""Options that several commands of ``sda-reprocess`` share. Not the commands."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sda_pipeline.cli.reprocess.moments import MomentParam
from sda_pipeline.cli.reprocess.speaking import seen_enough
from sda_pipeline.topology_graph import TOPIC
from sda_pipeline.vocabulary import ErrorKind

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT = "run"


class DefaultRun(click.Group):
    """A group whose options without a command are those of ``run``."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with seen_enough():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with seen_enough():
            return super().invoke(ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        asks_help = args[:1] in (["-h"], ["--help"])
        if not args or (args[0].startswith("-") and not asks_help):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


class TopicParam(click.ParamType):  # type: ignore[type-arg]
    """The name of a topic. An empty one (an unset shell variable) is no wish for the usual ones."""

    name = "topic"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        if re.fullmatch(TOPIC, value) is None:
            why = "is not the name of a topic" if value else "is empty"
            hint = "leave the option out to send to where they came from"
            self.fail(f"{value!r} {why}; {hint}", param, ctx)
        return str(value)


def _options(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


place_options = _options(
    click.option(
        "--state",
        type=click.Path(path_type=Path),
        help="State directory of the pipeline.  [default: 'state' of the topology]",
    ),
    click.option(
        "--topology",
        type=click.Path(path_type=Path),
        help="Topology file of the pipeline.  [default: topology.yaml]",
    ),
)
filter_options = _options(
    click.option(
        "--error-kind", "kinds", multiple=True, metavar="KIND",
        type=click.Choice([str(kind) for kind in ErrorKind], case_sensitive=False),
        help="Only entries of this kind; may be given again. "
        f"One of {', '.join(str(kind) for kind in ErrorKind)}.",
    ),
    click.option(
        "--operator", "operators", multiple=True, metavar="NAME",
        help="Only entries this source refused; may be given again.",
    ),
    click.option(
        "--since", type=MomentParam(), metavar="TIME",
        help="Only what was refused from then on: RFC 3339, epoch milliseconds, or '2h' ago.",
    ),
    click.option(
        "--until", type=MomentParam(), metavar="TIME", help="Only what was refused before then.",
    ),
)  # fmt: skip
json_option = click.option(
    "--json", "as_json", is_flag=True, help="For programs, see each command."
)
