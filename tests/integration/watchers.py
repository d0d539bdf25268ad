# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Real Prometheus and Alertmanager beside a test, with what the role `monitoring` writes for them."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

from tests.contract.project import ROOT
from tests.integration.support import end_with_parent, wait_until

ROLE = ROOT / "roles" / "monitoring"
PROGRAMS = ("prometheus", "prometheus-alertmanager")
needs_them = pytest.mark.skipif(
    any(shutil.which(program) is None for program in PROGRAMS), reason=f"not installed: {', '.join(PROGRAMS)}"
)


def rendered(name: str, folder: Path, **variables: Any) -> Path:
    """Write a template of the role as Ansible would, with the role's defaults."""
    folder.mkdir(exist_ok=True)
    more = {"_monitoring_config": str(folder), "ansible_python_interpreter": sys.executable, **variables}
    path = folder / name.removesuffix(".j2")
    subprocess.run(
        [
            Path(sys.executable).with_name("ansible"), "localhost", "-i", "localhost,", "-c", "local",
            "-m", "ansible.builtin.template",
            "-a", json.dumps({"src": str(ROLE / "templates" / name), "dest": str(path)}),
            "-e", f"@{ROLE / 'defaults' / 'main.yml'}",
            "-e", json.dumps(more),
        ],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    return path


def rules(folder: Path) -> Path:
    """Write the role's rules so that each fires in a second."""
    document = yaml.safe_load((ROLE / "files" / "rules" / "ugro.yml").read_text())
    for rule in (rule for group in document["groups"] for rule in group["rules"]):
        rule["for"] = "1s" if "for" in rule else "0s"
    path = folder / "ugro-rules" / "ugro.yml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(document))
    return path


@contextmanager
def running(program: str, port: int, log: Path, *options: str) -> Iterator[None]:
    """Run one of them on a port of 127.0.0.1 until the end; what it says goes to `log`."""
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [program, f"--web.listen-address=127.0.0.1:{port}", *options],
            stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True, preexec_fn=end_with_parent,
        )  # fmt: skip
    try:
        wait_until(lambda: _ready(port, process), f"{program} is ready", 120, every_s=0.1)
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def _ready(port: int, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "it has ended: see its log"
    try:
        with urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=10) as answer:
            return bool(answer.status == 200)
    except HTTPError as error:
        return error.code == 404  # the node exporter has no such page, and is ready when it answers
    except (OSError, http.client.HTTPException):
        return False


def asked(port: int, expression: str, **more: str) -> list[dict[str, Any]]:
    """Return what Prometheus says to an expression, now; AssertionError with its words where it takes it not."""
    with urlopen(
        f"http://127.0.0.1:{port}/api/v1/query?{urlencode({'query': expression, **more})}", timeout=60
    ) as answer:
        said: Mapping[str, Any] = json.load(answer)
    assert said["status"] == "success" and not said.get("warnings"), said
    result: list[dict[str, Any]] = said["data"]["result"]
    return result


def firing(port: int) -> set[tuple[str, str]]:
    """Return (alert, node) of all alerts that fire."""
    return {
        (series["metric"]["alertname"], series["metric"].get("node", ""))
        for series in asked(port, 'ALERTS{alertstate="firing"}')
    }


class Figures:
    """An exporter whose text a test sets."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.port = 0


@contextmanager
def exporter(text: str) -> Iterator[Figures]:
    """Tell Prometheus a text, in a thread."""
    figures = Figures(text)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = figures.text.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing on the tests' output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        figures.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield figures
        finally:
            server.shutdown()
            thread.join()
