"""`trueline.yaml`: what its keys are, what they mean, and where each value in force came from."""

from trueline.projectfile.keys import LATER
from trueline.projectfile.reading import load, parse

__all__ = ["LATER", "load", "parse"]
