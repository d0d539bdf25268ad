# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The page Cluster stays short where nodes have many GPUs: those that are alike stand together."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

from typing import Any

import pytest

from tests.unit.api_server import Served
from tests.unit.browser import Browser, browser, served, start  # noqa: F401 - fixtures
from tests.unit.web_jobs import HTML, check_safe, words
from ugro_py.cluster import Node
from ugro_py.scheduler import Gpu, Request, place
from ugro_py.state import Controller
from ugro_py.web.cluster_view import groups, places, summary


def gpu(index: int, job: str | None = None, name: str = "A", unusable: str | None = None) -> dict[str, Any]:
    return {"index": index, "job": job, "name": name, "unusable": unusable}


def test_gpus_that_are_alike_stand_together() -> None:
    found = groups([gpu(0, "x"), gpu(1, "x"), gpu(2), gpu(3), gpu(4, None, "B"), gpu(5, unusable="lost"), gpu(6, "x")])
    assert [(one["indexes"], one["job"], one["name"]) for one in found] == [
        ("0-1", "x", "A"), ("2-3", None, "A"), ("4", None, "B"), ("5", None, "A"), ("6", "x", "A"),
    ]  # fmt: skip
    assert groups([]) == []


def test_nodes_that_nobody_looked_at_are_not_called_sick() -> None:
    unknown, healthy = ({"state": state, "gpus": []} for state in ("unknown", "healthy"))
    assert not summary([unknown, unknown], [])["looked_at"]
    assert summary([unknown, healthy], [])["looked_at"]


@pytest.mark.parametrize(
    ("gpus", "said"),
    [([], ""), (["a:0", "b:0"], "a:0, b:0"), (["a:3", "a:0", "a:1"], "a:0-1,3"),
     ([f"n{node}:{index}" for node in range(30) for index in range(8)],
      "n0:0-7, n1:0-7, n2:0-7 and 27 more nodes, 240 GPUs")],
)  # fmt: skip
def test_where_a_job_runs_in_short(gpus: list[str], said: str) -> None:
    assert places(gpus) == said


def test_eight_gpus_of_a_job_are_a_group_with_a_line_for_each(browser: Browser, served: Served) -> None:
    store = served.agent.store
    cards = [Gpu(f"GPU-{index}", "here", index, "cuda", HTML, 80.0) for index in range(8)]
    store.sync_node(Node("here", "127.0.0.1", "master", "local"), cards, {})
    store.create_job("big", "ob", {"name": "big"})
    store.claim("big", Controller.me())
    where = place(Request(gpus=6), ["here"], store.gpus(), {})
    store.start_attempt("big", where, master_addr="x", master_port=1, token="t")
    store.set_job("big", "running")
    known = [
        {"uuid": f"GPU-{index}", "index": index, "util_percent": 90 + index, "vram_used_gb": 70.5, "temperature_c": 60}
        for index in range(7)
    ]  # fmt: skip
    served.agent.reports["here"] = {"gpu": {"gpus": known}}
    text = browser.get("/").text
    check_safe(text)
    said = words(text)
    assert "here:0-5" in said and "0-5 " in said and "6-7 " in said and "95 %" in said and "70.5/80 GB" in said
    assert text.count('href="/experiments/big"') == 2  # in the list, and once for all its GPUs
    assert text.count('aria-label="Utilisation of GPU') == 7  # nothing is known of the last
