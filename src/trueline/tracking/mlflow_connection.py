"""Where MLflow is: an SQLite file of ours, a database of a team's, or a server; and its errors in our words.

All three are MLflow's own stores, below its client: the same calls, without the client's per-call extras. MLflow's own
retries are off, for it repeats what creates a run as readily as what only sets a tag: whoever tells it something looks
first and repeats it himself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from trueline.errors import InvalidInput, NotAllowed, NotAuthenticated, TruelineError, Unavailable
from trueline.tracking.artifacts import Artifacts, Linked, Uploaded
from trueline.tracking.recording import QUIET

ONE_TRY = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}  # seconds for an answer, where the environment says nothing else
STATUS = re.compile(r"failed with error code (\d{3})|too many (\d{3}) error responses")
SILENCE = (
    (re.compile(r"timed out|timeout", re.IGNORECASE), "it did not answer in time"),
    (re.compile(r"Connection refused", re.IGNORECASE), "the connection was refused"),
    (re.compile(r"Name or service not known|getaddrinfo|NameResolution"), "no such host is known"),
    (re.compile(r"RemoteDisconnected|Connection aborted|Connection reset|Broken pipe"), "the connection broke off"),
    (re.compile(r"CERTIFICATE_VERIFY_FAILED|SSLError"), "its certificate is not trusted here"),
)
"""What MLflow wraps in its client's words."""
BUSY = re.compile(r"OperationalError|database is locked|connection", re.IGNORECASE)


@dataclass(frozen=True)
class Connection:
    """MLflow's stores of runs and of models, where files go, and how to speak of all this."""

    where: str
    entities: SimpleNamespace
    runs: Any
    models: Any
    artifacts: Artifacts
    exception: type[Exception]
    expected: tuple[
        type[Exception], ...
    ]  # what MLflow, its HTTP client and its database raise; anything else is a defect

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Errors of MLflow as ours, one sentence each."""
        try:
            yield
        except TruelineError:
            raise
        except self.expected as problem:
            raise explained(problem, self.where) from problem

    def close(self) -> None:
        for store in (self.runs, self.models):
            if hasattr(store, "engine"):
                store.engine.dispose()


def connect(address: Path | str, artifacts: Path) -> Connection:
    """Open a server (`http(s)://…`), a store by its URI, or the SQLite file at a path, which is created if need be."""
    if isinstance(address, str) and urlsplit(address).scheme in {"http", "https"}:
        return _server(address.rstrip("/"))
    mlflow = _load(sql=True)
    if isinstance(address, Path):
        with _quiet():
            if not address.exists():
                _create(mlflow, address.absolute(), artifacts)
            runs, models = _open(mlflow, f"sqlite:///{address.absolute()}", artifacts)
        return Connection(
            str(address), mlflow.entities, runs, models, Linked(artifacts.absolute()), mlflow.exception, mlflow.expected
        )
    where = without_secrets(address)
    try:
        with _quiet():
            runs, models = _open(mlflow, address, artifacts)
    except mlflow.expected as problem:
        raise explained(problem, where) from problem
    return Connection(
        where, mlflow.entities, runs, models, Linked(artifacts.absolute()), mlflow.exception, mlflow.expected
    )


def _server(url: str) -> Connection:
    url = _take_credentials(url)
    mlflow = _load(sql=False)
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository  # noqa: PLC0415
    from mlflow.store.model_registry.rest_store import RestStore as Models  # noqa: PLC0415
    from mlflow.store.tracking.rest_store import RestStore as Runs  # noqa: PLC0415
    from mlflow.utils.credentials import get_default_host_creds  # noqa: PLC0415

    def credentials() -> Any:
        return get_default_host_creds(url)

    def repository(uri: str) -> Any:
        return get_artifact_repository(uri, tracking_uri=url)

    return Connection(
        url,
        mlflow.entities,
        Runs(credentials),
        Models(credentials),
        Uploaded(repository),
        mlflow.exception,
        mlflow.expected,
    )


def explained(problem: Exception, where: str) -> TruelineError:
    """One sentence for whatever MLflow raised: of which kind it is decides who waits for whom."""
    status, text = _status(problem), _first_line(problem)
    if status == HTTPStatus.UNAUTHORIZED:
        return NotAuthenticated(
            f"MLflow at {where} does not accept these credentials (401): set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, where the worker is started"
        )
    if status == HTTPStatus.FORBIDDEN:
        return NotAllowed(
            f"MLflow at {where} forbids it (403: {text}): give this user permission to edit the experiment and the model "
            "there, or, where it speaks of the host, start the server with --allowed-hosts"
        )
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Unavailable(f"MLflow at {where} asks for fewer requests (429); it is tried again later")
    if status is None or status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        answered = f"it answered {status}" if status is not None and STATUS.search(str(problem)) else text
        reason = next((said for pattern, said in SILENCE if pattern.search(str(problem))), answered)
        return Unavailable(f"MLflow at {where} cannot be told anything now: {reason}")
    return InvalidInput(f"MLflow at {where} refused ({status}): {text}")


def _status(problem: BaseException) -> int | None:
    """The HTTP status behind an error, or the one it would have; none for what never reached a server."""
    if (found := STATUS.search(str(problem))) is not None:
        return int(found[1] or found[2])
    response = getattr(problem, "response", None)
    if response is not None:
        return int(response.status_code)
    if BUSY.search(str(problem)):
        return None
    if callable(code := getattr(problem, "get_http_status_code", None)):
        return int(code())
    return None


def _first_line(problem: BaseException) -> str:
    lines = str(problem).strip().splitlines()
    return re.sub(r"://[^/@\s]+@", "://", lines[0])[:300] if lines else type(problem).__name__


def without_secrets(address: str) -> str:
    """The address without user and password.

    >>> without_secrets("https://ada:secret@mlflow.acme/ml")
    'https://mlflow.acme/ml'
    """
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _take_credentials(url: str) -> str:
    """User and password of the URL to where MLflow reads them; the URL is what errors and addresses show."""
    parts = urlsplit(url)
    if parts.username:
        os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
        os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
    return without_secrets(url)


def _load(*, sql: bool) -> Any:
    """MLflow's stores and entities: imported when a store is opened, with its telemetry and chatter off before that."""
    for name, value in (QUIET | PATIENCE).items():
        os.environ.setdefault(name, value)
    os.environ.update(ONE_TRY)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow import entities  # noqa: PLC0415
    from mlflow.entities import model_registry  # noqa: PLC0415
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    names = (
        *("Metric", "Param", "RunTag", "RunStatus", "ViewType", "Dataset", "DatasetInput", "InputTag"),
        *("LoggedModelOutput", "LoggedModelParameter", "LoggedModelStatus", "LoggedModelTag"),
    )
    kinds = SimpleNamespace(**{name: getattr(entities, name) for name in names})
    kinds.ModelVersionTag = model_registry.ModelVersionTag
    found = SimpleNamespace(entities=kinds, exception=MlflowException, expected=(MlflowException, OSError))
    if sql:
        from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

        found.expected = (*found.expected, SQLAlchemyError)
        from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Models  # noqa: PLC0415
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Runs  # noqa: PLC0415

        found.runs, found.models = Runs, Models
    return found


def _open(mlflow: SimpleNamespace, uri: str, artifacts: Path) -> tuple[Any, Any]:
    return mlflow.runs(uri, artifacts.absolute().as_uri()), mlflow.models(uri)


def _create(mlflow: SimpleNamespace, database: Path, artifacts: Path) -> None:
    """Make the file under another name first: MLflow refuses for ever one whose migrations were cut short."""
    draft = database.with_name(f"{database.name}.draft-{os.getpid()}")
    draft.unlink(missing_ok=True)
    for store in _open(mlflow, f"sqlite:///{draft}", artifacts):
        store.engine.dispose()
    with contextlib.suppress(FileExistsError, FileNotFoundError):  # another process was faster
        os.link(draft, database)
    for left in database.parent.glob(f"{database.name}.draft-*"):
        left.unlink(missing_ok=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """MLflow's migrations set up logging for themselves; put the levels back to quiet afterwards."""
    try:
        yield
    finally:
        for name in ("mlflow", "alembic", "alembic.runtime.migration"):
            logging.getLogger(name).setLevel(logging.WARNING)
