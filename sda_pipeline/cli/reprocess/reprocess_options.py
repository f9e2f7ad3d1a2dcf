"""Options that several commands of ``sda-reprocess`` share. Not the commands."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from sda_pipeline.cli.reprocess.moments import MomentParam
from sda_pipeline.cli.reprocess.speaking import seen_enough
from sda_pipeline.topology_graph import TOPIC
from sda_pipeline.vocabulary import ErrorKind

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT = "run"
RATE_MAX = 1_000_000.0


class DefaultRun(click.Group):
    """A group whose options without a command are those of ``run``."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with seen_enough():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with seen_enough():
            return super().invoke(ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args[:1] in (["-h"], ["--help"]):
            return super().parse_args(ctx, args)
        at = self._first_argument(args)
        if at == len(args):
            args = [DEFAULT, *args]
        else:  # options may stand before the command, as most tools take them
            args = [args[at], *args[:at], *args[at + 1 :]]
        return super().parse_args(ctx, args)

    def _first_argument(self, args: Sequence[str]) -> int:
        """Where the first one stands that is neither an option of ``run`` nor the value of one."""
        options = {
            name: option
            for option in self.commands[DEFAULT].params
            if isinstance(option, click.Option)
            for name in option.opts
        }
        at = 0
        while at < len(args) and args[at].startswith("-"):
            option = options.get(args[at])
            at += 1 if option is None or option.is_flag else 2
        return min(at, len(args))


class RateParam(click.ParamType):  # type: ignore[type-arg]
    """Records a second."""

    name = "rate"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        try:
            rate = float(value)
        except ValueError:
            rate = math.nan
        if not 0.0 < rate <= RATE_MAX:
            why = f"{value!r} is no rate: give records a second, above 0 and up to {RATE_MAX:,.0f}"
            self.fail(why, param, ctx)
        return rate


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
        help="State directory of the pipeline.  [default: that of the topology]",
    ),
    click.option(
        "--topology",
        type=click.Path(path_type=Path),
        help="Or its topology file.  [default: topology.yaml]",
    ),
)
filter_options = _options(
    click.option(
        "--error-kind", "kinds", multiple=True, metavar="KIND",
        type=click.Choice([str(kind) for kind in ErrorKind], case_sensitive=False),
        help="Only entries of this kind; may be given again. "
        f"One of {', '.join(str(kind) for kind in ErrorKind)} "
        f"({ErrorKind.RETRY_BUDGET_EXHAUSTED}: reserved, no release has written it so far).",
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


def json_option(says: str) -> Callable[[F], F]:
    """``--json``, and what it prints."""
    return click.option("--json", "as_json", is_flag=True, help=says)
