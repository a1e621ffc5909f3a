"""Reports on a file without running it: unknown nodes, faults, and models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .check_prompt import check_prompt
from .engine_interface import BadWorkflow
from .models import model_notes
from .read_workflow import Workflow
from .to_prompt import convert, find_unknown


def report(
    workflow: Workflow,
    object_info: dict,
    unknown: Callable[[str], str],
    model_folders: Callable[[str], list[Path]],
) -> tuple[list[str], list[str]]:
    """Return notes on a workflow and its problems: two lists of sentences, each naming its node.

    Args: ``workflow``, checked by `check_structure`; for the rest see `to_prompt` and `model_notes`.
    """
    notes, problems = [], []
    for sentence, needed in find_unknown(workflow, object_info, unknown):
        (problems if needed else notes).append(sentence)
    try:
        prompt = convert(workflow, object_info, notes.append)
    except BadWorkflow as error:
        return notes, [*problems, *error.problems]
    problems += check_prompt(prompt, object_info, complete=not problems)
    for text, fine in model_notes(prompt, object_info, model_folders):
        (notes if fine else problems).append(text)
    return notes, problems
