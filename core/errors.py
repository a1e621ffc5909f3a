"""Errors that help: every message says what is wrong, with the value, and what to do about it."""

from __future__ import annotations


class PackError(Exception):
    """Base of all errors this pack raises on purpose.

    Args:
        problem: What is wrong, naming the input and its value. No full stop at the end.
        remedy: What the user can do about it. No full stop at the end.
        code: Names the error, if a program that uses this library may know a better remedy, such as an option of its
            own. It may set `remedy` before the user sees the error.
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
