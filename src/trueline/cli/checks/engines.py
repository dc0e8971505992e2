"""The engines: database, tracking and storage, asked as they will be used, with little patience; nothing is written but one small object."""

from __future__ import annotations

import http.client
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from trueline.cli.checks.finding import Finding, Patient, bad, doubtful, good
from trueline.settings import resolve, shown

if TYPE_CHECKING:  # the storage package is loaded where one is used
    from trueline.storage.objects import Objects

SECONDS = 4.0
PROBE = b"trueline doctor was here; this object may be deleted\n"


def database(patient: Patient) -> Finding:
    """The database answers, and its schema is one that this trueline knows."""
    from trueline.store import engine, schema

    said = patient.project.engines.database if patient.project else None
    if said is None and not patient.folder.database.exists():
        return good(f"{patient.folder.database} is made at the first run")
    where = patient.folder.database if said is None else _patient(resolve(said, "database", patient.root))
    found = engine.schema_of(where)
    name = shown(str(where).partition("?")[0])
    if found is None:
        return good(f"{name} answers and is empty; its tables are made at the first run")
    if found != schema.HEAD:
        return doubtful(f"{name} has schema {found}, this trueline {schema.HEAD}", "the next start brings it there")
    return good(f"{name} answers, schema {found}")


def _patient(url: str) -> str:
    """A URL that says how long to wait for a connection, unless it says so already."""
    if "connect_timeout=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}connect_timeout={SECONDS:.0f}"


def tracking(patient: Patient) -> Finding:
    """The MLflow server answers."""
    said = patient.project.engines.tracking if patient.project else None
    if said is None:
        return good(f"MLflow's own file, {patient.folder.tracking_database}")
    url = resolve(said, "tracking", patient.root)
    address = urlsplit(url)
    if address.scheme not in ("http", "https"):
        return doubtful(f"{shown(url)} is no server that can be asked", "name an MLflow server, as https://mlflow.acme")
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    try:
        connection = kind(address.hostname or "", address.port, timeout=SECONDS)
        connection.request("GET", f"{address.path.rstrip('/')}/version")
        answer = connection.getresponse()
        version = answer.read(100).decode(errors="replace").strip()
        connection.close()
    except (OSError, http.client.HTTPException, ValueError) as problem:
        return bad(
            f"{shown(url)} does not answer ({problem})",
            "start it, or correct tracking; trainings go on meanwhile, and what they say is brought there later",
        )
    if answer.status != http.client.OK:
        return bad(f"{shown(url)} answers {answer.status} where MLflow says its version", "correct tracking")
    return good(f"{shown(url)} answers, MLflow {version}")


def storage(patient: Patient) -> Finding:
    """The object store takes an object and gives it back; a shared folder can be written."""
    from trueline.storage.address import Patience, is_s3
    from trueline.storage.places import open_storage

    said = patient.project.engines.storage if patient.project else None
    if said is None:
        return good(f"the state folder, {patient.folder.root}")
    url = resolve(said, "storage", patient.root)
    patience = Patience(connect_seconds=SECONDS, request_seconds=SECONDS, attempts=1)
    opened = open_storage(url if "://" in url else str(patient.root / url), patient.folder, patience=patience)
    if is_s3(url) and opened.objects is not None:
        return _kept(opened.objects)
    shared = patient.root / url.removeprefix("file://")
    place = next(path for path in (shared, *shared.absolute().parents) if path.exists())
    if not os.access(place, os.W_OK | os.X_OK):
        return bad(f"{place} cannot be written", "make it writable, or correct storage")
    return good(f"{shared} can be written")


def _kept(objects: Objects) -> Finding:
    """Only writing tells whether the bucket is there and the credentials suffice."""
    with tempfile.NamedTemporaryFile(prefix="trueline-doctor-") as probe:
        probe.write(PROBE)
        probe.flush()
        objects.put("doctor", Path(probe.name))
    if b"".join(objects.read("doctor")) != PROBE:
        return bad(f"{objects.shown} gives back something else than was written", "look whether others write there")
    return good(f"{objects.shown} keeps what is written (its object doctor may be deleted)")
