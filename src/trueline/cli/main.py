"""The command line's edge: commands are imported when they are called, and errors become a sentence and an exit code.

`trueline --help` must not import what commands need, so the table below carries each command's one-line help (a test
keeps the two equal).
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from trueline.errors import TruelineError, Unavailable

if TYPE_CHECKING:  # needed only while a shell completes
    from click.shell_completion import CompletionItem

INTERRUPTED = 130
TERMINATED = 143
UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF})
"""What a write to stdout may end with; a reader who has gone (EPIPE) is click's affair, and no error."""

COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("trueline.cli.init", "Write a project file for what lies here."),
    "up": ("trueline.cli.up", "Run everything: API, controllers, model server, worker."),
    "serve": ("trueline.cli.serve", "Serve predictions: what is released here, or one packaged model."),
    "stream": ("trueline.cli.stream", "Predict for messages of a Kafka topic, into another topic."),
    "open": ("trueline.cli.open", "Print a link to the pages of the running server."),
    "run": ("trueline.cli.run", "Train a candidate and follow it until its gate has decided."),
    "predict": ("trueline.cli.predict", "Score the rows of a file with the model that serves."),
    "resume": ("trueline.cli.run", "Have a failed run go on from where it failed."),
    "logs": ("trueline.cli.logs", "What a run has printed, live while it runs."),
    "status": ("trueline.cli.status", "What serves, what moves, what is wrong."),
    "runs": ("trueline.cli.lists", "Trainings, newest first."),
    "versions": ("trueline.cli.lists", "Model versions, newest first."),
    "release": ("trueline.cli.release", "Start releasing an approved version."),
    "promote": ("trueline.cli.release", "Give a release all traffic, or a version to the next target."),
    "approve": ("trueline.cli.targets", "Agree to the release of a version that passed its gate."),
    "rollback": ("trueline.cli.release", "Serve the version before, or the one you name."),
    "diff": ("trueline.cli.targets", "What differs between two targets: settings, and what serves."),
    "token": ("trueline.cli.token", "Make a token in somebody's name, take it back, or list them all."),
    "why": ("trueline.cli.why", "Trace a prediction back to model, run, code, data and decision."),
    "why-cached": ("trueline.cli.logs", "Why a run or a step was done again, or was not."),
    "events": ("trueline.cli.events", "What happened, to what, who did it, and why."),
    "explain": ("trueline.cli.explain", "Each setting: its value in force, and where that came from."),
    "schema": ("trueline.cli.schema", "The JSON Schema of the project file."),
    "doctor": ("trueline.cli.doctor", "Check what trueline needs here, and say what to do."),
    "completion": ("trueline.cli.completion", "Print the completion script of a shell."),
    "replay": ("trueline.cli.replay", "Live through your own history: what the loop would have done."),
    "demo": ("trueline.cli.demo", "Watch the whole loop on a year of real flights."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they run."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 likewise
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = getattr(import_module(COMMANDS[cmd_name][0]), cmd_name.replace("-", "_"))
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not ctx.resilient_parsing:
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=1)
            if near:
                ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The table's names and helps; click would import every command for its help."""
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=help_) for name, (_, help_) in COMMANDS.items() if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 likewise
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, help_) in COMMANDS.items()])


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 click's signature
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"trueline {version('trueline')}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
)
def cli() -> None:
    """Keep machine-learning models true in production.

    \b
    Examples:
      trueline init --target price
      trueline run
      trueline up

    Exit codes: 0 ok, 1 failed, 2 wrong use or configuration, 3 gate failed, 4 gate inconclusive, 6 something
    needed cannot be reached or used (a server, a database, a port, a folder), 7 refused, 130 interrupted, 143 terminated.
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the only place where an error becomes an exit code."""
    signal.signal(signal.SIGTERM, _terminated)
    os.environ.setdefault("RUST_LOG", "error")  # Delta's library tells each try to find credentials, and we the outcome
    try:
        result: Any = cli.main(args=arguments, prog_name="trueline", standalone_mode=False)
    except click.Abort:
        return INTERRUPTED
    except click.ClickException as wrong:
        wrong.show()
        return wrong.exit_code
    except TruelineError as error:
        click.echo(f"trueline: {error}", err=True)
        return error.exit_code
    except OSError as problem:
        if problem.filename is not None or problem.errno not in UNWRITABLE:
            raise
        _drop_the_rest()
        click.echo(f"trueline: stdout cannot be written ({problem.strerror}); see to where it goes", err=True)
        return Unavailable.exit_code
    return result if isinstance(result, int) else 0


def _drop_the_rest() -> None:
    """What stdout has not taken yet, or the interpreter would complain of it as it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _terminated(signum: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 the signature of a handler
    sys.exit(TERMINATED)
