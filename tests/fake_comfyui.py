"""A stand-in for ComfyUI that speaks the few routes in use, and what tells whether a server is gone."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

posix_only = pytest.mark.skipif(os.name != "posix", reason="signals of this kind exist on POSIX only")

# Stands in for ComfyUI: the few routes in use, and nothing else. Its behaviour is chosen by the file "how" beside it.
FAKE_COMFYUI = """
import argparse, json, os, pathlib, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
parser.add_argument("--base-directory")
options, _ = parser.parse_known_args()
how = (pathlib.Path(__file__).parent / "how").read_text()
print("stand-in", how, flush=True)
if how == "dies":
    for number in range(40):
        print("line", number)
    sys.exit("no such option")
def reached():
    (pathlib.Path(__file__).parent / "reached").write_text(str(os.getpid()))
if how == "hangs":
    reached()
    time.sleep(60)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
(pathlib.Path(options.base_directory) / "child").write_text(str(child.pid))

class Answers(BaseHTTPRequestHandler):
    def answer(self, body, code=200):
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def do_GET(self):
        if self.path == "/system_stats":
            self.answer({"system": {"argv": sys.argv}})
        elif self.path == "/object_info":
            schema = {"input": {"required": {"n": ["INT", {"min": 1, "max": 3}]}}, "output": [], "output_node": True}
            self.answer({"N": schema})
        elif self.path.startswith("/ws"):
            self.answer({}, 404)
        elif how == "dies in the run":
            os._exit(3)
        elif how == "runs for ever":
            reached()
            self.answer({})
        else:
            status = {"status_str": "success", "messages": []}
            if how == "node fails":
                data = {"node_id": "4", "node_type": "N", "exception_message": "no", "exception_type": "ValueError"}
                status = {"status_str": "error", "messages": [["execution_error", data]]}
            images = [{"filename": "a.png", "subfolder": "s", "type": "output"}]
            self.answer({"1": {"outputs": {"4": {"images": images}}, "status": status}})
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        errors = {"4": {"class_type": "N", "errors": [{"type": "value_bigger_than_max",
            "message": "Value 9 bigger than max of 3", "details": "n"}]}}
        if how == "hangs when queueing" and self.path == "/prompt":
            reached()
            time.sleep(60)
        if how == "refuses":
            self.answer({"error": {"message": "bad"}, "node_errors": errors}, 400)
        elif how == "refuses a part":
            self.answer({"prompt_id": "1", "node_errors": errors})
        else:
            self.answer({"prompt_id": "1", "node_errors": {}})
    def log_message(self, *_):
        pass
ThreadingHTTPServer(("127.0.0.1", options.port), Answers).serve_forever()
"""


def gone(port: int) -> bool:
    """Whether nothing listens on the port any more; a dying server gets some seconds."""
    until = time.monotonic() + 15
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return True
        time.sleep(0.1)
    return False


def runs(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody has collected yet does not."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except ProcessLookupError:
        return False
