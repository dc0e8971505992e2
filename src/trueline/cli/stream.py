"""`trueline stream`: Kafka in and out."""

from __future__ import annotations

import os
import signal
from dataclasses import asdict
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import click

from trueline.cli.options import Session, with_session
from trueline.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from trueline.streaming.loop import Streamer


@click.command
@click.option(
    "-b",
    "--bootstrap-servers",
    "--broker",
    "brokers",
    required=True,
    metavar="HOST:PORT,…",
    envvar="KAFKA_BOOTSTRAP_SERVERS",
    help="Where Kafka is.",
)
@click.option("--input", "source", required=True, metavar="TOPIC", help="Rows, as JSON that /predict takes.")
@click.option("--output", required=True, metavar="TOPIC", help="For predictions.")
@click.option("--dead-letter", required=True, metavar="TOPIC", help="For messages that are refused, with the reason.")
@click.option("--labels", default=None, metavar="TOPIC", help="Labels, as JSON that /labels takes.")
@click.option("--group", default=None, metavar="NAME", help="Consumer group; default trueline-INPUT.")
@click.option("--server", default=None, metavar="URL", help="Model server; default the one of the running `up`.")
@click.option(
    "-X",
    "--property",
    "properties",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting of Kafka's client; may be repeated. VALUE may be env:NAME or file:PATH.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    default=None,
    help="Settings of Kafka's client, a line each (client.properties).",
)
@with_session
def stream(
    session: Session,
    brokers: str,
    source: str,
    output: str,
    dead_letter: str,
    labels: str | None,
    group: str | None,
    server: str | None,
    properties: tuple[str, ...],
    config: Path | None,
) -> None:
    """Predict for messages of a Kafka topic, into another topic.

    Each message is answered by the running model server, so canary, shadow and journal apply. At least once: an offset
    is committed when the prediction is acknowledged, and a message that comes twice has the same ids both times. Start
    several with one group to share the partitions. Ends with Ctrl-C or SIGTERM after finishing what it has taken.

    \b
    Examples:
      trueline stream -b kafka:9092 --input departures --output delays --dead-letter departures-refused
      trueline stream -b kafka:9093 --config client.properties --input a --output b --dead-letter c --labels truth
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped
    given = settings(brokers, config, properties)
    streamer = _streamer(session, source, output, dead_letter, labels, group or f"trueline-{source}", server, given)
    for wanted in (signal.SIGTERM, signal.SIGINT):
        signal.signal(wanted, lambda *_: streamer.stop.set())
    session.out.say(f"{source} → {output} through {streamer.server.url}, as group {streamer.topics.group}")
    try:
        streamer.run()
    finally:
        streamer.close()
        counts = asdict(streamer.counts)
        if session.out.as_json:
            session.out.json(counts)
        else:
            session.out.say(
                "stopped after " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
            )


def settings(brokers: str, config: Path | None, properties: tuple[str, ...]) -> dict[str, str]:
    """What Kafka's client is told: the file, then -X, then the brokers."""
    from trueline.settings import resolve

    lines = [] if config is None else config.read_text(encoding="utf-8").splitlines()
    told = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith(("#", "!"))]
    found: dict[str, str] = {}
    for one in (*told, *properties):
        name, equals, value = (part.strip() for part in one.partition("="))
        if not equals or not name:
            raise InvalidInput(f"{one[:60]!r} is not a setting of Kafka's client; expected name=value")
        found[name] = resolve(value, name, None if config is None else config.parent)
    return found | {"bootstrap.servers": brokers}


def _streamer(
    session: Session,
    source: str,
    output: str,
    dead_letter: str,
    labels: str | None,
    group: str,
    server: str | None,
    given: dict[str, str],
) -> Streamer:
    from trueline.streaming import outcomes
    from trueline.streaming.asking import ModelServer
    from trueline.streaming.loop import Streamer, Topics

    try:
        from trueline.streaming import kafka
    except ImportError:
        raise Unavailable("Kafka's client is not installed; pip install 'trueline[kafka]'") from None
    names = [one for one in (source, output, dead_letter, labels) if one is not None]
    if len(set(names)) < len(names):
        raise InvalidInput("--input, --output, --dead-letter and --labels must be different topics")
    kafka.check(given)
    asked = ModelServer(server or _running(session), _token(session, server))
    outcomes.recognise(asked.check(), asked.url)  # before Kafka hears of a member that cannot do its work
    read = [one for one in (source, labels) if one is not None]
    return Streamer(
        source=kafka.KafkaSource(read, group, given, session.out.say),
        sink=kafka.KafkaSink(given, session.out.say),
        server=asked,
        topics=Topics(source, output, dead_letter, group, labels),
        say=session.out.say,
        stop=Event(),
    )


def _running(session: Session) -> str:
    from trueline.client import servers

    found = servers.read(session.state) if servers.running(session.state) else None
    if found is None:
        raise Unavailable(
            f"no model server runs on {session.state.root}; start `trueline up`, or name one with --server http://HOST:PORT"
        )
    return found.serve


def _token(session: Session, server: str | None) -> str | None:
    """The state folder's token is for the server that runs on it; any other must be meant by TRUELINE_TOKEN."""
    from trueline.security import tokens

    return os.environ.get(tokens.VARIABLE) if server else tokens.read(session.state.token)
