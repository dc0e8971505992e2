"""`trueline schema`: the project file's JSON Schema, for editors and for checks before a commit."""

from __future__ import annotations

import json

import click

from trueline.cli.options import Session, without_target


@click.command
@without_target
def schema(session: Session) -> None:
    """The JSON Schema of the project file.

    An editor that knows it completes the keys and marks what is wrong: write it to a file and name that file in the
    first line of trueline.yaml, as `# yaml-language-server: $schema=trueline.schema.json`.

    \b
    Examples:
      trueline schema > trueline.schema.json
      trueline schema --json | check-jsonschema --schemafile /dev/stdin trueline.yaml
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped
    from trueline.projectfile.schema import schema as made

    indent = None if session.out.as_json else 2
    click.echo(json.dumps(made(), indent=indent, ensure_ascii=False))
