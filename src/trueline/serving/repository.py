"""The model repository extension of Open Inference v2: which versions there are, and having one loaded or let go of.

Loading routes nothing. A loaded version answers only who names it (`/v2/models/m/versions/3/infer`), and what it says is no evidence in
any release. Every serving process of this machine is asked to do the same, over their Unix sockets. Who had it done is
noted on disk before it is acknowledged; control makes an event of the note.

Where the state folder has a token, load and unload need it, also on loopback: or the token of a person who may release.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from trueline import audits, catalogue
from trueline.domain.routes import Arm, Route
from trueline.errors import (
    Conflict,
    InvalidInput,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    NotSupported,
    TruelineError,
    Unavailable,
)
from trueline.security import tokens
from trueline.security.people import People
from trueline.serving.predict import decode_json
from trueline.serving.responses import encode
from trueline.serving.table import Versions
from trueline.settings import StateFolder

log = logging.getLogger(__name__)

PERMISSION = "release"
NOBODY = "local"  # who it was, where no token is configured: anybody on this machine
SIBLING_SECONDS = 90.0  # loading takes as long as the model takes

Fields = Mapping[str, Any]


class Repository:
    def __init__(self, state: StateFolder, replica: str, versions: Versions) -> None:
        self._state = state
        self._replica = replica
        self._versions = versions
        self._people = People(state.people)

    # -- who may

    @property
    def guarded(self) -> bool:
        """Whether loading and unloading need a token here."""
        return tokens.read(self._state.token) is not None or self._state.people.exists()

    def who(self, authorization: str | None, *, open_house: bool = True) -> str:
        """Who stands behind an Authorization header; raises for somebody who may not load or unload.

        `open_house`: where no token is configured, whoever is on this machine may.
        """
        owner = tokens.read(self._state.token)
        if open_house and not self.guarded:
            return NOBODY
        if authorization is None or not authorization.startswith("Bearer "):
            raise NotAuthenticated(
                "loading and unloading need a token: send 'Authorization: Bearer …' with the one in the state folder's "
                "token file, or a token of your own that may release"
            )
        shown = authorization.removeprefix("Bearer ")
        if owner is not None and hmac.compare_digest(owner.encode(), shown.encode(errors="replace")):
            return NOBODY
        person = self._people.whose(shown)
        if person is None:
            raise NotAuthenticated("this token is not known here; use the one in the state folder's token file")
        if person.permissions is not None and PERMISSION not in person.permissions:
            raise NotAllowed(f"{person.name} may not do this: it needs the permission '{PERMISSION}'")
        return person.name

    # -- what there is

    def index(self, *, ready_only: bool = False) -> list[dict[str, str]]:
        """Every version that can be named here, newest first, in the words of the extension."""
        standing = self._versions.standing
        ready = {one.version: "" for one in self._versions.loaded}
        known = {route.version: self._absence(route.path, "in the route table") for route in standing.table.routes}
        known |= {one.version: self._absence(one.path, one.state) for one in catalogue.read(self._state.catalogue)}
        shown = ready if ready_only else known | ready
        return [
            {
                "name": standing.table.model,
                "version": str(version),
                "state": "READY" if version in ready else "UNAVAILABLE",
                "reason": shown[version],
            }
            for version in sorted(shown, reverse=True)
        ]

    def _absence(self, path: str, state: str) -> str:
        here = (self._state.root / path).exists()
        return f"{state}, not loaded" if here else f"{state}, its model is not on this machine"

    # -- having it loaded or let go of

    async def load(self, model: str, version: int | None, actor: str) -> list[int]:
        """Load a version (none named: the newest) here and in the sibling processes; those that are loaded by it."""
        route = self._find(model, version)
        if route.version in self._versions.standing.by_version:
            return [route.version]
        already = self._is_loaded(route.version)
        await self._versions.load(route)
        noted = False
        try:
            await self._note(audits.LOAD, route.version, actor)
            noted = True
            await self._siblings({"op": "load", "version": route.version, "path": route.path, "digest": route.digest})
            self._keep(route)
        except Unavailable:
            if not already:
                await self._back_out(route.version, actor if noted else None)
            raise
        return [route.version]

    async def restore(self) -> None:
        """Load what was asked for before this process started, by the others or by the one before it."""
        for path in sorted(self._state.asked.glob("*.json")):
            try:
                (entry,) = catalogue.read(path)
                folder = str(self._state.root.resolve() / entry.path)
                await self._versions.load(Route(entry.version, Arm.pinned, 0.0, folder, entry.digest))
            except (TruelineError, ValueError) as problem:
                log.warning("%s asks for a version that is not loaded: %s", path, problem)

    async def unload(self, model: str, version: int | None, actor: str) -> list[int]:
        """Let go of a version (none named: of all that no table names) here and in the sibling processes."""
        self._check_model(model)
        needed = self._versions.needed
        wanted = [one.version for one in self._versions.loaded if one.version not in needed]
        if version is not None:
            self._versions.pinned(version)  # or it is not found
            wanted = [version]
        elif not wanted:
            raise Conflict(f"every loaded version of '{model}' is in the route table, so they stay loaded")
        for one in wanted:
            if one not in needed:  # else the unloading says why it cannot be
                await self._note(audits.UNLOAD, one, actor)  # first: an unloading cannot be taken back
                self._asked(one).unlink(missing_ok=True)
            await self._versions.unload(one)
            await self._siblings({"op": "unload", "version": one})
        return wanted

    async def obey(self, fields: Fields) -> dict[str, Any]:
        """What a sibling asks for over the admin socket: the same here, and no note, for that one makes it."""
        try:
            version = int(fields["version"])
            route = (
                Route(version, Arm.pinned, 0.0, str(fields["path"]), str(fields["digest"]))
                if fields["op"] == "load"
                else None
            )
        except (KeyError, TypeError, ValueError):
            raise InvalidInput("expected a version, and to load it its path and digest") from None
        if route is not None:
            await self._versions.load(route)
        elif self._is_loaded(version):
            await self._versions.unload(version)
        return {"version": version}

    def _check_model(self, model: str) -> None:
        served = self._versions.standing.table.model
        if model != served:
            raise NotFound(f"no model '{model}' is served here; this server has '{served}'")

    def _is_loaded(self, version: int) -> bool:
        return any(one.version == version for one in self._versions.loaded)

    def _find(self, model: str, version: int | None) -> Route:
        """Where a version's model lies on this machine: as the route table says, or the catalogue of control."""
        self._check_model(model)
        routes = {route.version: route for route in self._versions.standing.table.routes}
        if version in routes:
            return routes[version]
        root = self._state.root.resolve()
        entries = catalogue.read(self._state.catalogue)
        if version is None and entries:
            version = max(entry.version for entry in entries)
        elif version is None and routes:
            return routes[max(routes)]
        for entry in entries:
            if entry.version == version:
                folder = root / entry.path
                if not folder.exists():
                    raise NotFound(
                        f"version {version} of '{model}' is registered, but its model is not on this machine; a release brings it"
                    )
                return Route(entry.version, Arm.pinned, 0.0, str(folder), entry.digest)
        loaded = next((one for one in self._versions.loaded if one.version == version), None)
        if loaded is not None:
            return Route(loaded.version, Arm.pinned, 0.0, loaded.path, loaded.digest)
        raise NotFound(
            f"no version {version} of '{model}' is registered here" if version else f"'{model}' has no versions yet"
        )

    async def _note(self, deed: str, version: int, actor: str) -> None:
        note = audits.Note(deed, version, actor, self._replica, audits.now_us())
        await asyncio.to_thread(audits.put, self._state.audits, note)  # it waits for the disk

    def _keep(self, route: Route) -> None:
        """Have processes that start later load it too."""
        try:
            self._state.asked.mkdir(exist_ok=True)
        except OSError as problem:
            raise Unavailable(f"{self._state.asked} cannot be made ({problem.strerror or problem})") from problem
        root = self._state.root.resolve()
        path = str(Path(route.path).relative_to(root)) if Path(route.path).is_relative_to(root) else route.path
        catalogue.write(self._asked(route.version), [catalogue.Entry(route.version, path, route.digest, "asked")])

    def _asked(self, version: int) -> Path:
        return self._state.asked / f"{version}.json"

    async def _back_out(self, version: int, actor: str | None) -> None:
        """Undo a load that could not be finished; `actor` when there is a note of it already."""
        self._asked(version).unlink(missing_ok=True)
        with suppress(TruelineError):
            await self._versions.unload(version)
        with suppress(TruelineError):
            await self._siblings({"op": "unload", "version": version})
        if actor is not None:
            with suppress(Unavailable):
                await self._note(audits.UNLOAD, version, actor)

    async def _siblings(self, message: Fields) -> None:
        """Have every other serving process of this machine do it; Unavailable with the first that could not."""
        mine = self._state.socket(f"serve-{self._replica}")
        others = [path for path in sorted(self._state.sockets.glob("serve-*.sock")) if path != mine]
        answers = await asyncio.gather(*(_tell(path, message) for path in others))
        for path, problem in zip(others, answers, strict=True):
            if problem is not None:
                raise Unavailable(f"{path.stem} could not {message['op']} version {message['version']}: {problem}")


async def _tell(path: Path, message: Fields) -> str | None:
    """Why a process did not do it; None when it did, or when nobody is there any more."""
    try:
        async with asyncio.timeout(SIBLING_SECONDS):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(encode(message) + b"\n")
                answer = msgspec.json.decode(await reader.readline())
            finally:
                writer.close()
    except (ConnectionRefusedError, FileNotFoundError):
        return None
    except (OSError, TimeoutError, ValueError) as problem:
        return f"it does not answer ({type(problem).__name__})"
    return None if answer.get("ok") else str(answer.get("error"))


def wanted_version(body: bytes) -> int | None:
    """The version that the body of a load or unload names: `{"parameters": {"version": "3"}}`, or Triton's `config`."""
    parsed = decode_json(body) if body.strip() else {}
    parameters = (parsed.get("parameters") or {}) if isinstance(parsed, dict) else None
    if not isinstance(parameters, dict):
        raise InvalidInput('expected an object, {"parameters": {"version": "3"}}, or nothing')
    if any(name.startswith("file:") for name in parameters):
        raise NotSupported("models are not taken over this interface: register a version, then load it by its number")
    version = parameters.get("version")
    if version is None and "config" in parameters:
        version = _of_config(parameters["config"])
    if version is None:
        return None
    text = str(version)
    if isinstance(version, bool) or not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise InvalidInput(f"'version' must be a whole number, got {text[:40]!r}")
    return int(text)


def _of_config(config: Any) -> Any:
    """The one version of `{"version_policy": {"specific": {"versions": [3]}}}`, which is how Triton's clients name it."""
    try:
        (version,) = msgspec.json.decode(config)["version_policy"]["specific"]["versions"]
    except (msgspec.DecodeError, ValueError, TypeError, KeyError):
        raise NotSupported(
            'of a config only one version is taken here: {"version_policy": {"specific": {"versions": [3]}}}'
        ) from None
    return version


def wants_ready_only(body: bytes) -> bool:
    """The only thing an index request can ask for."""
    parsed = decode_json(body) if body.strip() else {}
    ready = parsed.get("ready", False) if isinstance(parsed, dict) else None
    if not isinstance(ready, bool):
        raise InvalidInput('expected an object, {"ready": true} for what is loaded only, or nothing')
    return ready
