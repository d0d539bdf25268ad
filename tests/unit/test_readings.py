# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Nodes are read at once; one that is slow, dead or chatty costs the others nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ugro_py import readings
from ugro_py.cluster import Node
from ugro_py.errors import NodeError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def program(folder: Path, name: str, text: str) -> str:
    """Return a stand-in for a node's Python."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def local(name: str, python: str) -> Node:
    return Node(name, "127.0.0.1", connection="local", python=python, train_python=sys.executable)


def test_every_node_has_its_report_or_its_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = readings._Deadline

    def deadline(process: subprocess.Popen[bytes], seconds: float) -> Any:
        return real(process, 3.0 if "hanging" in str(process.args) else 60.0)  # who answers may be slow

    monkeypatch.setattr(readings, "_Deadline", deadline)
    nodes = [
        local("well", sys.executable),
        local("missing", str(home / "no-python")),
        local("dead", program(home, "dead", "echo 'cannot go on' >&2; exit 3")),
        local("hanging", program(home, "hanging", "exec sleep 600")),
        local("chatty", program(home, "chatty", f'echo Welcome; echo; exec {sys.executable} "$@"')),
    ]
    called = []
    begun = time.monotonic()
    reports = readings.report_all(nodes, meanwhile=lambda: called.append(1))
    assert time.monotonic() - begun < 60
    assert called == [1]
    assert list(reports) == [node.name for node in nodes]
    for name in ("well", "chatty"):
        report = reports[name]
        assert not isinstance(report, NodeError), report
        assert report["node"]["cpu_count"] >= 1
        assert abs(report["clock_offset_s"]) < 30
        assert report["latency_ms"] >= 0
    said = {name: str(report) for name, report in reports.items() if isinstance(report, NodeError)}
    assert "No such file" in said["missing"]
    assert "cannot go on" in said["dead"]
    assert "no answer in" in said["hanging"]


def test_a_report_that_does_not_come(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session is there, then it stops to answer."""
    monkeypatch.setattr(readings, "REPORT_TIMEOUT_S", 1.0)
    answer = """echo UGRO-READY; read -r hello; echo '{"id": 1, "result": {"t": 0}}'; exec sleep 600"""
    reports = readings.report_all([local("silent", program(home, "silent", answer))])
    assert "report: no answer in 1 s" in str(reports["silent"])


def test_a_session_that_ends_in_the_middle_of_a_line(home: Path) -> None:
    torn = """echo UGRO-READY; read -r hello; echo '{"id": 1, "result": {"t": 0}}'; printf '{"id": 2, '; exit 0"""
    reports = readings.report_all([local("torn", program(home, "torn", torn))])
    assert "report: the connection was lost" in str(reports["torn"])
