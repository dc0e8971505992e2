"""Every error a user can meet, named for what happened.

A message says what happened, to which thing, why, and what to do. HTTP status and exit code come from the
two attributes here and are applied once, at the edge (`web/api`, `cli/main.py`).
"""

from __future__ import annotations


class TruelineError(Exception):
    """Base of all expected errors; anything else is a defect in trueline or in user code."""

    status = 500
    exit_code = 1


class InvalidInput(TruelineError):
    """A value given by a caller is not acceptable."""

    status = 400
    exit_code = 2


class InvalidProject(InvalidInput):
    """The project file is missing, malformed or contradicts itself."""


class InvalidData(InvalidInput):
    """Data does not satisfy the contract, or a source cannot be read."""


class TrainingFailed(TruelineError):
    """The user's `fit` raised, timed out, died, or returned something unusable."""

    status = 422


class PackagingFailed(TruelineError):
    """No executor reproduces the fitted estimator."""

    status = 422


class NotFound(TruelineError):
    """A thing that was asked for by name does not exist."""

    status = 404


class NotAuthenticated(TruelineError):
    """No token, or one that is not known."""

    status = 401
    exit_code = 7


class NotAllowed(TruelineError):
    """The caller is known but may not do this, or a policy forbids it."""

    status = 403
    exit_code = 7


class Conflict(TruelineError):
    """Somebody else moved the thing first, or it is not in a state that allows this."""

    status = 409


class TooLarge(TruelineError):
    """A body, a batch or a name exceeds its limit."""

    status = 413
    exit_code = 2


class UnsupportedMedia(TruelineError):
    """A body of a content type that is not understood."""

    status = 415
    exit_code = 2


class UnsupportedEncoding(UnsupportedMedia):
    """A body that is packed in a way that is not understood."""


class NotSupported(TruelineError):
    """A part of a protocol that is not spoken here."""

    status = 501
    exit_code = 2


class Overloaded(TruelineError):
    """The server cannot take more work now; try again later."""

    status = 429
    exit_code = 6


class Unavailable(TruelineError):
    """Something needed (a server, a database, a file system) cannot be reached."""

    status = 503
    exit_code = 6


class NotRecorded(Unavailable):
    """The journal could not take a batch (a full disk, most likely), or only its first `kept` records."""

    def __init__(self, sentence: str, *, kept: int = 0) -> None:
        super().__init__(sentence)
        self.kept = kept


class GateFailed(TruelineError):
    """A gate said fail."""

    status = 409
    exit_code = 3


class GateInconclusive(TruelineError):
    """A gate could not tell yet."""

    status = 409
    exit_code = 4
