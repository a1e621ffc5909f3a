"""A new user's first minutes: a ComfyUI with an empty input folder, the template browser, one click on Run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import comfyui
import numpy as np
import pytest
from conftest import FOUND
from editor import EXAMPLES, Editor, put_settings
from PIL import Image
from workflows import ONCE

RUNNABLE = ("mask_edges", "remove_background", "text_to_mask")
APPS = {"edit_mask": 3, "remove_background_app": 2, "text_to_mask_app": 3}  # the node that has the live view
VIEW_SHOWN = (
    "([id]) => { const {app} = window.comfyAPI.app;"
    " const node = (app.rootGraph ?? app.graph).getNodeById(id);"
    " const canvas = node.widgets.find((w) => w.name === 'maskwright_view').element.querySelector('canvas');"
    " return canvas.isConnected && canvas.getBoundingClientRect().width > 50 && !canvas.hidden }"
)


@pytest.fixture(scope="session")  # pytest sorts tests by renderer: a module would start it twice
def fresh() -> Iterator[comfyui.Server]:
    """ComfyUI with this pack alone, as after installing."""
    root = os.environ.get("COMFYUI_FRONTEND_ROOT")
    with comfyui.Server(FOUND, cpu=True, arguments=["--front-end-root", root] if root else []) as server:
        yield server


@pytest.fixture(scope="session")
def page(fresh: comfyui.Server, browser: object, renderer: str) -> Iterator[Editor]:
    put_settings(
        fresh.url,
        Comfy_TutorialCompleted=True,
        Comfy_OnboardingCoachmarks_Seen=["appMode"],
        Comfy_VueNodes_Enabled=renderer == "vue",
        Comfy_Locale="en",
    )
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    editor = Editor(context.new_page(), fresh.url)
    editor.open()
    yield editor
    context.close()


@pytest.fixture
def newcomer(page: Editor, fresh: comfyui.Server, shots: Path, request: pytest.FixtureRequest) -> Iterator[Editor]:
    """The page for one test, with empty folders and no cached results; its console must stay free of errors."""
    page.call("await api.fetchApi('/free', {method: 'POST', body: JSON.stringify({free_memory: true})})")
    for file in [*fresh.input_folder.iterdir(), *(fresh.base / "output").iterdir()]:
        if file.is_file():
            file.unlink()
    page.errors.clear()
    yield page
    page.page.screenshot(path=shots / f"{request.node.name}.png")
    assert page.errors == []


def browse(editor: Editor):
    """Open the template browser at this pack's templates, and return the dialog."""
    editor.call("app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    dialog = editor.page.locator("[role=dialog]").filter(has=editor.page.get_by_test_id("template-workflows-content"))
    dialog.wait_for()
    dialog.locator("[data-testid^=template-workflow-]").first.wait_for()  # the list is loaded
    ours = dialog.get_by_text(comfyui.LINK_NAME, exact=True)
    if not ours.count():
        dialog.get_by_text("Extensions", exact=True).first.click()
    ours.first.click()
    return dialog


def open_template(editor: Editor, name: str) -> None:
    browse(editor).get_by_test_id(f"template-workflow-{name}").click()
    editor.page.wait_for_function(
        "(name) => window.comfyAPI.app.app.extensionManager.workflow.activeWorkflow?.filename?.startsWith(name)"
        " && (window.comfyAPI.app.app.rootGraph ?? window.comfyAPI.app.app.graph).nodes.length",
        arg=name,
    )
    editor.wait_until_settled()


def read(name: str) -> dict:
    return json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))


def press_run(editor: Editor, is_app: bool = False) -> None:
    """Click the editor's own button, and wait for the end of the run."""
    editor.call(
        "window.__ended = null;"
        "for (const kind of ['execution_success', 'execution_error', 'execution_interrupted'])"
        "  api.addEventListener(kind, (event) => { window.__ended ??= {kind, ...event.detail} }, {once: true});"
    )
    page = editor.page
    app_button = page.get_by_role("button", name="Run", exact=True).locator("visible=true")
    (app_button.last if is_app else page.get_by_test_id("queue-button").first).click()
    editor.page.wait_for_function("() => window.__ended", timeout=120_000)
    assert editor.ended["kind"] == "execution_success", editor.ended


def loaded_images(editor: Editor) -> list[str]:
    nodes = editor.serialized()["nodes"]
    return [node["widgets_values"][0] for node in nodes if node["type"] == "LoadImage"]


def saved_images(server: comfyui.Server) -> list[np.ndarray]:
    return [np.asarray(Image.open(file)) for file in sorted((server.base / "output").glob("*.png"))]


def has_issues(editor: Editor) -> bool:
    """Whether the editor marks a node, such as one whose image is missing."""
    return editor.call("return (app.rootGraph ?? app.graph).nodes.some((node) => node.has_errors)")


def upload_requests(editor: Editor) -> list[str]:
    """A list that grows with each upload from here on."""
    requests = []
    editor.page.on("request", lambda request: requests.append(request.url) if "/upload/" in request.url else None)
    return requests


@ONCE
def test_template_browser_shows_every_thumbnail(newcomer: Editor) -> None:
    answers = {}
    newcomer.page.on("response", lambda response: answers.update({response.url.rsplit("/", 1)[-1]: response.status}))
    dialog = browse(newcomer)
    for example in sorted(EXAMPLES.glob("*.json")):
        image = dialog.get_by_test_id(f"template-workflow-{example.stem}").locator("img").first
        image.wait_for()
        image.scroll_into_view_if_needed()
        handle = image.element_handle()
        newcomer.page.wait_for_function("(image) => image.complete && image.naturalWidth >= 256", arg=handle)
        assert answers.get(f"{example.stem}.jpg", 200) == 200
    newcomer.page.keyboard.press("Escape")
    newcomer.page.wait_for_timeout(300)
    if dialog.is_visible():  # an older editor takes the key only from a field
        dialog.locator("button:has(i.pi-times)").click()
    dialog.wait_for(state="hidden")


@pytest.mark.parametrize("name", RUNNABLE)
def test_template_runs_in_one_click(newcomer: Editor, fresh: comfyui.Server, name: str) -> None:
    open_template(newcomer, name)
    assert not has_issues(newcomer)
    assert newcomer.page.get_by_text("missing", exact=False).count() == 0
    press_run(newcomer)
    images = saved_images(fresh)
    assert len(images) >= 2 and all(image.std() > 1 for image in images)


NEXT_APP = pytest.mark.editor("1.49", "an App mode that shows the next app's widgets")  # it has an early one


@pytest.mark.parametrize(
    "name",
    [
        "remove_background_app",
        pytest.param("edit_mask", marks=NEXT_APP),
        pytest.param("text_to_mask_app", marks=NEXT_APP),
    ],
)
def test_app_runs_in_one_click_with_a_live_view(newcomer: Editor, fresh: comfyui.Server, name: str) -> None:
    open_template(newcomer, name)
    press_run(newcomer, is_app=True)
    assert len(saved_images(fresh)) == (1 if name == "edit_mask" else 2)
    newcomer.page.wait_for_function(VIEW_SHOWN, arg=[APPS[name]])


@ONCE
def test_detail_template_lacks_only_the_checkpoint(newcomer: Editor, fresh: comfyui.Server) -> None:
    open_template(newcomer, "detail_masked_regions")
    marked = newcomer.call("return (app.rootGraph ?? app.graph).nodes.filter((n) => n.has_errors).map((n) => n.type)")
    assert set(marked) <= {"CheckpointLoaderSimple"}
    assert (fresh.input_folder / "astronaut.jpg").read_bytes() == (EXAMPLES / "assets/astronaut.jpg").read_bytes()


@ONCE
@pytest.mark.parametrize(
    "content",
    [b"", b"not an image", (EXAMPLES / "assets/astronaut.jpg").read_bytes()[:5000]],
    ids=["empty", "foreign", "broken"],
)
def test_template_leaves_other_files_of_its_names_alone(
    newcomer: Editor, fresh: comfyui.Server, content: bytes
) -> None:
    (fresh.input_folder / "astronaut.jpg").write_bytes(content)
    newcomer.load(read("mask_edges"), "mask_edges")
    assert loaded_images(newcomer) == ["astronaut (1).jpg"]
    assert not has_issues(newcomer)
    newcomer.run()
    assert newcomer.ended["kind"] == "execution_success", newcomer.ended
    assert (fresh.input_folder / "astronaut.jpg").read_bytes() == content
    newcomer.load(read("mask_edges"), "mask_edges")
    assert loaded_images(newcomer) == ["astronaut (1).jpg"], "the second copy is not uploaded again"


@ONCE
def test_saved_copy_keeps_the_image_that_the_user_chose(newcomer: Editor, fresh: comfyui.Server) -> None:
    newcomer.load(read("mask_edges"), "mask_edges")
    Image.new("RGB", (8, 8), "red").save(fresh.input_folder / "astronaut.jpg")
    saved = newcomer.serialized()
    assert "maskwright_images" not in saved["extra"]
    uploads = upload_requests(newcomer)
    newcomer.load(saved, "copy")
    newcomer.reload()
    assert uploads == []
    assert loaded_images(newcomer) == ["astronaut.jpg"]


@ONCE
@pytest.mark.parametrize("how", ["error", "no connection"])
def test_refused_upload_is_one_sentence(newcomer: Editor, how: str) -> None:
    address = "**/api/upload/image"
    handler = (lambda route: route.fulfill(status=500)) if how == "error" else (lambda route: route.abort())
    newcomer.page.route(address, handler)
    newcomer.load(read("mask_edges"), "mask_edges")
    newcomer.page.unroute(address)
    newcomer.page.get_by_text("ComfyUI did not accept the template's sample images: astronaut.jpg").first.wait_for()
    assert len(newcomer.serialized()["nodes"]) == len(read("mask_edges")["nodes"])
    newcomer.load(read("mask_edges"), "mask_edges")  # opened again, it works
    newcomer.run()
    assert newcomer.ended["kind"] == "execution_success", newcomer.ended
