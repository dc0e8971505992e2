"""A year of real flights, kept true: a program like any other caller, on the public API and plain HTTP alone."""

from trueline.demo.program import main

__all__ = ["main"]
