"""The id of a request that can be sent again: the same wherever and whenever it is answered.

A request that comes with a key (`Idempotency-Key`) is named by model, key and body alone. Whichever process answers it, before or
after whoever died, records it under that name, so that two records of one request can be told for what they are: its
prediction ids are the same, and a label finds it by either answer. Readers of what was recorded take the first that was answered.
"""

from __future__ import annotations

from hashlib import blake2b

KEYED = r"^key-[0-9a-f]{32}$"
"""What no other request's id looks like."""


def keyed_request_id(model: str, key: bytes, body: bytes) -> str:
    """The id of the request with this key and body.

    >>> keyed_request_id("m", b"a", b"bc") == keyed_request_id("m", b"ab", b"c")
    False
    """
    name = model.encode()
    sizes = b"%d %d " % (len(name), len(key))
    return f"key-{blake2b(b''.join((sizes, name, key, body)), digest_size=16).hexdigest()}"
