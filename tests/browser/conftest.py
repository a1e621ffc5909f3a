"""One ComfyUI and one Chromium for all tests in this folder; without them they are skipped, and say why."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import comfyui
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import editor as editor_page
import workflows

FOUND = comfyui.find_comfyui()
REASON = editor_page.why_not() or ("" if FOUND.usable else FOUND.why)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.slow)
            if REASON:
                item.add_marker(pytest.mark.skip(reason=REASON))


@pytest.fixture(scope="session")
def server() -> Iterator[comfyui.Server]:
    """ComfyUI with the pack linked in, the host tests' nodes (a model for the detailer), the images of the examples.

    COMFYUI_FRONTEND_ROOT names another editor (the folder `static` of a comfyui-frontend-package).
    """
    root = os.environ.get("COMFYUI_FRONTEND_ROOT")
    arguments = ["--front-end-root", root] if root else []
    nodes = Path(__file__).parents[1] / "host" / "fixture_nodes"
    with comfyui.Server(FOUND, packs=[nodes], cpu=True, arguments=arguments) as started:
        for file in (editor_page.EXAMPLES / "assets").iterdir():
            if file.suffix in (".png", ".jpg"):
                started.copy_input(file)
        yield started


@pytest.fixture(scope="session")
def shots() -> Path:
    """Where screenshots go; MASKWRIGHT_SCREENSHOTS names a folder."""
    folder = os.environ.get("MASKWRIGHT_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        return Path(folder).resolve()
    return Path(tempfile.mkdtemp(prefix="maskwright-screenshots-"))


@pytest.fixture(scope="session")
def browser(shots: Path, request: pytest.FixtureRequest) -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=editor_page.chromium(), args=list(editor_page.FLAGS))
        yield started
        started.close()
    terminal = request.config.pluginmanager.get_plugin("terminalreporter")
    if terminal:
        terminal.write_line(f"\nscreenshots: {shots}")


@pytest.fixture(scope="session", params=["canvas", "vue"])
def renderer(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def opened(server: comfyui.Server, browser: object, renderer: str) -> Iterator[editor_page.Editor]:
    """The editor in one renderer, in a profile of its own."""
    editor_page.put_settings(
        server.url,
        Comfy_TutorialCompleted=True,
        Comfy_VueNodes_Enabled=renderer == "vue",
        Comfy_Locale="en",
        Maskwright_View_Show=True,
    )
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    page = editor_page.Editor(context.new_page(), server.url)
    page.open()
    yield page
    context.close()


@pytest.fixture(autouse=True)
def _skip_in_old_editors(request: pytest.FixtureRequest) -> None:
    """Skip tests marked `editor(oldest, what, renderer=None)` in older editors, which lack `what`."""
    for marker in request.node.iter_markers("editor"):
        oldest, what = marker.args
        if marker.kwargs.get("renderer") not in (None, request.getfixturevalue("renderer")):
            continue
        version = request.getfixturevalue("page" if "page" in request.fixturenames else "opened").version
        if editor_page.as_numbers(version) < editor_page.as_numbers(oldest):
            pytest.skip(f"editor {version} lacks {what}")


@pytest.fixture
def editor(opened: editor_page.Editor, shots: Path, request: pytest.FixtureRequest) -> Iterator[editor_page.Editor]:
    """The same, for one test: its console must stay free of errors, and a screenshot is left at the end."""
    opened.close_dialogs()
    opened.errors.clear()
    yield opened
    opened.page.screenshot(path=shots / f"{request.node.name.replace('/', '-')}.png")
    assert opened.errors == []


@pytest.fixture
def red_parts(server: comfyui.Server) -> str:
    """The name of an image with two red parts."""
    name = "two_red_parts.png"
    workflows.two_parts().save(server.input_folder / name)
    return name
