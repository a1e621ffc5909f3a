"""Errors whose messages name the problem, with the value, and a remedy."""

from __future__ import annotations


class PackError(Exception):
    """Base of all errors this pack raises on purpose.

    Args:
        problem: What is wrong, naming the input and its value. No period at the end.
        remedy: What the user can do about it. No period at the end.
        code: Identifies the error to programs that use this library and may know a better remedy, such as an option of
            their own. They may set `remedy` before the user sees the error.
    """

    def __init__(self, problem: str, remedy: str, code: str = "") -> None:
        super().__init__(problem, remedy, code)
        self.problem, self.remedy, self.code = problem, remedy, code

    def __str__(self) -> str:
        return f"{self.problem}. {self.remedy}."


class InputError(PackError, ValueError):
    """An input of a node or an argument of a function cannot be used."""


class ModelError(PackError):
    """A model's files are missing, broken, or could not be downloaded."""


class DependencyError(PackError):
    """A required Python package is missing or does not work."""
