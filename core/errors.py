"""Errors that help: every message says what is wrong, with the value, and what to do about it."""

from __future__ import annotations


class PackError(Exception):
    """Base of all errors this pack raises on purpose.

    Args:
        problem: What is wrong, naming the input and the value that was met. No full stop at the end.
        remedy: What the user can do about it. No full stop at the end.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}. {remedy}.")
        self.problem = problem
        self.remedy = remedy


class InputError(PackError, ValueError):
    """An input of a node or an argument of a function cannot be used."""


class ModelError(PackError):
    """A model's files are missing, broken, or could not be downloaded."""


class DependencyError(PackError):
    """A Python package that is needed for this is missing or does not work."""
