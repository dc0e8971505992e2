"""`trueline demo`: hands everything to the demonstration, which has options of its own."""

from __future__ import annotations

import click

from trueline.errors import Unavailable


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    options_metavar="[--seed N] [--pace FACTOR] [--keep] [--json]",
)
@click.option("--json", "as_json", is_flag=True, help="End with the summary as one JSON object on stdout.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def demo(arguments: tuple[str, ...], *, as_json: bool) -> int:
    """Watch the whole loop on a year of real flights.

    \b
    Examples:
      trueline demo
      trueline demo --json
      trueline demo --pace 2 --keep
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped
    try:
        from trueline.demo import main
    except ModuleNotFoundError as missing:
        raise Unavailable(
            f"the demonstration needs the module {missing.name}; install it with `pip install 'trueline[demo]'`"
        ) from missing
    return int(main([*arguments, *(["--json"] if as_json else [])]) or 0)
