"""`trueline completion`: the script that makes a shell complete commands, options, names and keys."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from trueline.cli.options import Session, without_target

SHELLS = ("bash", "zsh", "fish")


@click.command
@click.argument("shell", type=click.Choice(SHELLS))
@without_target
def completion(session: Session, shell: str) -> None:
    """Print the completion script of a shell.

    Put the line below into ~/.bashrc or ~/.zshrc; for fish, write the script to
    ~/.config/fish/completions/trueline.fish.

    \b
    Examples:
      trueline completion bash
      eval "$(trueline completion zsh)"
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped
    found = get_completion_class(shell)
    root = click.get_current_context().find_root()
    if found is None:
        raise click.UsageError(f"there is no completion for {shell}")
    made = found(root.command, {}, "trueline", "_TRUELINE_COMPLETE")
    script = made.source_template % made.source_vars()
    if session.out.as_json:
        session.out.json({"shell": shell, "script": script})
    else:
        click.echo(script)
