"""The place of a model's signature in its way into the server: after the digest, before anything of it is opened.

A packaged model may carry a detached signature, `model.sig`. This trueline cannot verify one yet, so a server whose
policy asks for signed models loads none: to take an unverified signature for a good one would be worse than to refuse.
"""

from __future__ import annotations

from pathlib import Path

from trueline.errors import PackagingFailed

NAME = "model.sig"


def check(folder: Path, *, required: bool) -> None:
    """Nothing, where no signature is required.

    Raises:
        PackagingFailed: one is required, and there is none or it cannot be verified.
    """
    if not required:
        return
    remedy = "set serve.require_signature to false to load it by its digest alone"
    if not (folder / NAME).is_file():
        raise PackagingFailed(
            f"the model in {folder} is not signed (it has no {NAME}), and only signed ones load; {remedy}"
        )
    raise PackagingFailed(f"the signature {folder / NAME} is required and this trueline cannot verify it yet; {remedy}")
