"""The Python client of a control plane, and how to find the servers of a state folder."""

from trueline.client.client import Client

__all__ = ["Client"]
