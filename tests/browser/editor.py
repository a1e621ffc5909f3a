"""ComfyUI's editor in a real browser, as tests drive it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "example_workflows"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--force-color-profile=srgb")

# Console errors that the bare editor has too. "Attempted to cleanup" is what the editor says of itself when a subgraph
# that was open is left by loading a file; the others come of a server without network and news.
NOT_OURS = ("Attempted to cleanup event listeners", "[GTM]", "Error fetching")
NOT_LOADED = "Failed to load resource"  # of any address: see `Editor._heard`

# Editor 1.49.6 reads its own graph too early at every page load, with or without packs. The message always comes from
# the same getter, so only the stack shows whether an extension is the cause.
_DROP_EARLY_ACCESS_OF_THE_EDITOR = """
const error = console.error;
console.error = (...parts) => {
  if (String(parts[0]).includes("graph accessed before initialization")) {
    Error.stackTraceLimit = 200;
    const stack = new Error().stack;
    Error.stackTraceLimit = 10;
    if (!stack.includes("/extensions/")) return;
    parts.push(stack);
  }
  error.apply(console, parts);
};
"""


def chromium() -> str:
    """The browser's path; CHROMIUM_PATH names one. Empty where there is none."""
    return os.environ.get("CHROMIUM_PATH") or next((path for name in NAMES if (path := shutil.which(name))), "")


def why_not() -> str:
    """What is missing for a browser test; empty where nothing is."""
    if importlib.util.find_spec("playwright") is None:
        return "Playwright is not installed"
    return "" if chromium() else "no Chromium was found; CHROMIUM_PATH may name one"


def put_settings(url: str, **settings: object) -> None:
    """Store editor settings (``Comfy_VueNodes_Enabled`` for ``Comfy.VueNodes.Enabled``) on the server."""
    body = json.dumps({name.replace("_", "."): value for name, value in settings.items()}).encode()
    request = urllib.request.Request(f"{url}/api/settings", body, {"Content-Type": "application/json"}, method="POST")
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20).close()


def as_numbers(version: str) -> tuple[int, ...]:
    """Major and minor number of a version, for comparing."""
    return tuple(int(part) for part in version.split(".")[:2])


class Editor:
    """One page with the editor open; `errors` collects what its console complains of."""

    def __init__(self, page, url: str) -> None:
        self.page, self.url = page, url
        self.errors: list[str] = []
        self.queued = 0
        page.add_init_script(_DROP_EARLY_ACCESS_OF_THE_EDITOR)
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.errors.append(f"page error: {error}"))
        page.on("request", self._requested)

    def _heard(self, message) -> None:
        if message.type != "error" or any(part in message.text for part in NOT_OURS):
            return
        address = message.location.get("url", "")
        # The editor asks for much that a bare server lacks, and for help in the user's language before any other.
        is_ours = "maskwright" in address and not re.search(r"/docs/[^/]+/[\w-]+\.md$", address)
        if message.text.startswith(NOT_LOADED) and not is_ours:
            return
        self.errors.append(f"{message.text} {address}".strip())

    def _requested(self, request) -> None:
        if request.method == "POST" and request.url.endswith("/prompt"):
            self.queued += 1

    def open(self) -> None:
        self.page.goto(self.url, wait_until="domcontentloaded")
        self.wait_until_ready()

    def reload(self) -> None:
        self.page.reload(wait_until="domcontentloaded")
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        self.page.wait_for_function(
            "() => window.comfyAPI?.app?.app?.extensionManager?.workflow?.activeWorkflow"
            " && window.comfyAPI.app.app.canvas?.graph"
            " && !document.querySelector('#splash-loader, .p-blockui-mask')",
            timeout=120_000,
        )
        self.wait_until_settled()

    @property
    def version(self) -> str:
        return self.page.evaluate("() => window.__COMFYUI_FRONTEND_VERSION__")

    def close_dialogs(self) -> None:
        """Such as an older editor's list of missing models."""
        while self.page.locator(".p-dialog-mask:visible").count():
            self.page.keyboard.press("Escape")
            self.page.wait_for_timeout(300)

    def call(self, body: str, argument: object = None) -> object:
        """Run JavaScript that sees ``app``, ``api`` and ``given``."""
        return self.page.evaluate(
            "async (given) => { const {app} = window.comfyAPI.app; const {api} = window.comfyAPI.api; " + body + " }",
            argument,
        )

    def load(self, workflow: dict, name: str = "test") -> None:
        """Open a workflow in the editor's format, as opening its file does."""
        self.call(
            "await app.loadGraphData(given.workflow, true, true, given.name)", {"workflow": workflow, "name": name}
        )
        self.wait_until_settled()

    def boxes(self) -> list[list]:
        """Each node's title and bounding box, ``[title, x1, y1, x2, y2]`` in the graph's units.

        The Vue renderer has its own minimum width and may not update ``node.size``, so its elements on the page are
        measured.
        """
        return self.call(
            "return (app.rootGraph ?? app.graph).nodes.map((n) => {"
            " const element = document.querySelector(`[data-node-id='${n.id}']`);"
            " const size = element ? ['width', 'height'].map((side) =>"
            "   element.getBoundingClientRect()[side] / app.canvas.ds.scale) : [n.size[0], n.size[1] + 30];"
            " return [n.title, n.pos[0], n.pos[1] - 30, n.pos[0] + size[0], n.pos[1] - 30 + size[1]] })"
        )

    def frames(self) -> None:
        """Wait until what was asked for is drawn: views draw at the next frame."""
        self.page.evaluate(
            "() => new Promise((done) => {"
            " let left = 3; const next = () => (left-- ? requestAnimationFrame(next) : done()); next() })"
        )

    def wait_until_settled(self) -> None:
        """Wait until the nodes have kept their places and sizes for a quarter of a second."""
        self.page.evaluate(
            """async () => {
              const {app} = window.comfyAPI.app;
              const nodes = () => (app.canvas.graph ?? app.graph).nodes;
              const look = () => JSON.stringify(nodes().map((node) => [...node.pos, ...node.size]));
              const end = performance.now() + 5000;
              let before = look();
              for (let same = 0; same < 5 && performance.now() < end; ) {
                await new Promise((done) => setTimeout(done, 50));
                await new Promise(requestAnimationFrame);
                const now = look();
                same = now === before ? same + 1 : 0;
                before = now;
              }
            }"""
        )

    def serialized(self) -> dict:
        return self.call("return JSON.parse(JSON.stringify((app.rootGraph ?? app.graph).serialize()))")

    def run(self, wait: bool = True, timeout: int = 120_000) -> None:
        """Press Run, and wait for the end of it."""
        self.call(
            "window.__ended = null;"
            "for (const kind of ['execution_success', 'execution_error', 'execution_interrupted'])"
            "  api.addEventListener(kind, (event) => { window.__ended ??= {kind, ...event.detail} }, {once: true});"
            "await app.queuePrompt(0)"
        )
        if wait:
            self.page.wait_for_function("() => window.__ended", timeout=timeout)
            self.page.wait_for_timeout(200)
            self.frames()

    @property
    def ended(self) -> dict:
        return self.page.evaluate("() => window.__ended")

    def set_widget(self, node_id: int, name: str, value: object) -> None:
        """What moving a slider does, in both renderers: the value, and the widget's callback."""
        self.call(
            "const node = (app.rootGraph ?? app.graph).getNodeById(given.id);"
            "const widget = node.widgets.find((w) => w.name === given.name);"
            "widget.value = given.value; widget.callback?.(given.value, app.canvas, node)",
            {"id": node_id, "name": name, "value": value},
        )
        self.frames()

    def view(self, node_id: int):
        """The element of a node's view."""
        handle = self.page.evaluate_handle(
            "(id) => { const {app} = window.comfyAPI.app; const node = (app.rootGraph ?? app.graph).getNodeById(id);"
            "return node.widgets.find((w) => w.name === 'maskwright_view')?.element }",
            node_id,
        )
        return handle.as_element()

    def message(self, node_id: int) -> str:
        """The message that a node's view shows in place of an image; empty if it shows an image."""
        return self.view(node_id).evaluate(
            "(e) => { const m = e.querySelector('.maskwright-message'); return m.hidden ? '' : m.textContent }"
        )

    def wait_for_text(self, node_id: int, words: str) -> None:
        """Wait until a node's view shows the words, in place of the image or below it."""
        self.page.wait_for_function(
            "([e, words]) => [...e.querySelectorAll('.maskwright-message, .maskwright-note')]"
            ".some((m) => !m.hidden && m.textContent.includes(words))",
            arg=[self.view(node_id), words],
            timeout=10_000,
        )

    def note(self, node_id: int) -> str:
        return self.view(node_id).evaluate("(e) => e.querySelector('.maskwright-note').textContent")

    def wait_for_image(self, node_id: int) -> None:
        self.page.wait_for_function(
            "(e) => !e.querySelector('canvas').hidden && e.querySelector('canvas').width > 0", arg=self.view(node_id)
        )
        self.frames()

    def pixels(self, node_id: int):
        """The pixels of a node's view, ``[H,W,4]`` uint8."""
        import base64

        import numpy as np

        width, height, data = self.view(node_id).evaluate(
            "(e) => { const c = e.querySelector('canvas');"
            "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
            "let s = ''; for (let i = 0; i < d.length; i += 30000)"
            " s += String.fromCharCode(...d.subarray(i, i + 30000)); return [c.width, c.height, btoa(s)] }"
        )
        return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)
