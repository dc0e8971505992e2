"""PostgreSQL: for processes on several machines.

Writers take turns, as SQLite's do: each write transaction (READ COMMITTED) first takes one advisory lock, which the
server gives back at its end, however that comes. So what a transaction reads after it is all that was ever committed,
a question and the write that answers it are one step, and events are committed in the order of their ids. Why not
SERIALIZABLE: docs/decisions/0009. A transaction that only reads sees one moment (REPEATABLE READ) and waits for nobody.

Nothing waits without an end: not for a connection, a lock or an answer, nor does the server wait for a process that
stopped in mid-transaction. Its clock is the time that leases run on, for every machine has another.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import ArgumentError, DBAPIError

from trueline.clock import from_us
from trueline.errors import Conflict, InvalidInput, InvalidProject, TruelineError, Unavailable
from trueline.store.database import Database

SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
LOCK_SECONDS = 15
STATEMENT_SECONDS = 30
IDLE_SECONDS = 10  # in mid-transaction
POOL_SECONDS = 15

DEFAULTS = {
    "application_name": "trueline",
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
"""Of libpq; the URL may say otherwise."""

_NOW = "(extract(epoch from clock_timestamp()) * 1000000)::bigint"
_LOCK = "pg_advisory_xact_lock(hashtextextended('trueline writes ' || current_schema(), 0))"
TIME = text(f"select {_NOW}")
TURN = text(f"select {_LOCK}, {_NOW}")


def connect(url: str) -> Database:
    """An engine for that URL; nothing is sent yet.

    Raises:
        InvalidProject: it is not a URL of PostgreSQL.
        Unavailable: the driver is not installed.
    """
    parsed = _parse(url)
    where = shown(parsed)
    said = parsed.query.get("options", "")
    given = said if isinstance(said, str) else " ".join(said)
    timeouts = {
        "statement_timeout": STATEMENT_SECONDS,
        "lock_timeout": LOCK_SECONDS,
        "idle_in_transaction_session_timeout": IDLE_SECONDS,
    }
    options = " ".join(f"-c {name}={seconds}s" for name, seconds in timeouts.items())
    defaults = {name: value for name, value in DEFAULTS.items() if name not in parsed.query}
    try:
        engine = create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            isolation_level="READ COMMITTED",
            pool_pre_ping=True,  # a connection from before the server's restart is replaced, not handed out
            pool_timeout=POOL_SECONDS,
            use_native_hstore=False,
            connect_args={**defaults, "options": f"{options} {given}".strip()},
        )
    except ImportError as missing:
        raise Unavailable(
            f"{where} needs the driver of PostgreSQL ({missing}); install it: pip install 'trueline[postgresql]'"
        ) from missing
    return Database(
        engine=engine,
        where=where,
        elsewhere="another database",
        snapshot={"isolation_level": "REPEATABLE READ", "postgresql_readonly": True},
        take_turn=lambda connection: from_us(connection.execute(TURN).one()[1]),
        time=lambda connection: from_us(connection.execute(TIME).scalar_one()),
        insert=insert,
        words=lambda problem: words(problem, parsed),
        patience="set local lock_timeout = '5min'; set local statement_timeout = '5min'",
    )


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # neither is quoted: the URL may hold a password
        parsed = None
    if parsed is None or parsed.drivername not in SCHEMES:
        raise InvalidProject(
            "database is not a URL that can be used; it reads postgresql://user:password@host:5432/name, "
            "with %40 for an @ in the password, or is left out for SQLite in the state folder"
        ) from None
    return parsed


def shown(url: URL) -> str:
    """Who, where and which database: never the password, nor what else the URL says."""
    host = url.host or url.query.get("host") or "localhost"
    address = f"{host}:{url.port}" if url.port else str(host)
    return f"postgresql://{f'{url.username}@' if url.username else ''}{address}/{url.database or ''}"


def words(problem: DBAPIError, url: URL) -> TruelineError | None:
    """What went wrong and what to do, from the server's code, or the driver's text where there was no server."""
    said = _said(problem.orig, url)
    code = getattr(problem.orig, "sqlstate", None)
    if code is None:
        return Unavailable(_not_connected(said, url))
    if code in CONFLICTS:
        return Conflict(f"somebody else was first: {said}")
    if code == TOO_LARGE:
        return InvalidInput("a number is larger than any that is counted here; correct it")
    for prefix, remedy in REMEDIES.items():
        if code.startswith(prefix):
            return Unavailable(f"the database {shown(url)} {remedy.format(said=said, user=url.username or 'the user')}")
    return None


CONFLICTS = {"40001", "40P01", "23505"}
"""A serialization failure, a deadlock, a unique key that is taken."""

TOO_LARGE = "22003"

REMEDIES = {
    "28": "refused to let {user} in: {said}; check user and password in `database:`",
    "3D": "is not there: {said}; create it with `createdb`, or name another in `database:`",
    "42501": "does not permit it: {said}; give {user} the right, e.g. GRANT ALL ON SCHEMA public TO {user}",
    "42P": "is not as trueline made it: {said}; restore it, or name another in `database:`",
    "3F": "has no schema to work in: {said}; create it, or name another in its search_path",
    "25006": "only reads: {said}; name the primary server in `database:`",
    "25P03": "ended a transaction that stood still for {said}; it is tried again",
    "53100": "has no room left: {said}; make room on its disk and it goes on by itself",
    "53300": "has no free connection: {said}; raise its max_connections, or run fewer processes",
    "55P03": "was busy with other writes for too long; try again",
    "57014": "did not answer in time; try again",
    **dict.fromkeys(("08", "25", "53", "55", "57", "58", "XX"), "cannot be used now: {said}; try again"),
}
"""By SQLSTATE, the first that fits; what the list does not know is a wrong statement of ours."""


def _not_connected(said: str, url: URL) -> str:
    """The driver has no code for what happens before there is a session."""
    where, user = shown(url), url.username or "the user"
    if "password" in said or "role" in said:
        return f"the database {where} refused to let {user} in: {said}; check user and password in `database:`"
    if "does not exist" in said:
        return f"the database {where} is not there: {said}; create it with `createdb`, or name another in `database:`"
    if "pg_hba" in said or "permission" in said:
        return f"the database {where} does not let {user} in from here: {said}; ask its administrator"
    if "refused" in said or "resolve" in said or "timeout" in said or "No such file" in said or "No route" in said:
        return f"the database {where} cannot be reached: {said}; is it running, and are host and port right?"
    return f"the database {where} cannot be used now: {said}; try again"


def _said(problem: Any, url: URL) -> str:
    """The first line of the driver's message, without its preamble and without the password."""
    first = str(problem).strip().partition("\n")[0]
    told = first.rpartition("FATAL:  ")[2].removeprefix("connection failed: ")
    return told.replace(str(url.password), "***") if url.password else told
