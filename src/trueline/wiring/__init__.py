"""The one place where settings become objects."""

from trueline.wiring.opening import open_context, open_services

__all__ = ["open_context", "open_services"]
