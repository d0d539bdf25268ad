"""A thousand experiments: how long the agent takes to list them, and for the page that shows them.

- `experiments_list_1000_runs`: `experiments.ls` of all of them, sorted by loss, as `ugro results ls` asks for.
- `experiments_page_1000_runs`: `GET /experiments` over HTTP, from request to the last byte: newest first, sorted by a
  figure, searched, filtered by tag, and a page far behind, by turns.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from benchmarks.bed import Bed
from benchmarks.measure import Figure
from docs.demo import served
from tests.ports import free_port
from ugro_py import experiments
from ugro_py.api.view import Timing
from ugro_py.cluster import Cluster, Node
from ugro_py.state import Store
from ugro_py.state.models import jobs
from ugro_py.state.models_experiments import experiments as kept
from ugro_py.state.models_experiments import job_tags

NAME = "experiments_page_1000_runs"
RUNS = int(os.environ.get("UGRO_RUNS", "1000"))
LIMIT_MS = 150.0
ALL_LIMIT_MS = 500.0  # no page shows all of them at once
PAGES = ("", "?sort=loss", "?q=llama-7", "?tag=good", "?page=20", "?sort=-throughput&status=failed")


class View:
    """What the application needs of an agent: a store with many jobs."""

    watches = True

    def __init__(self, folder: Path) -> None:
        self.store = Store.open(f"sqlite:///{folder}/ugro.db")
        self.cluster = Cluster("bench", (Node("here", "127.0.0.1", "master", "local"),), folder / "hosts.yml")
        _fill(self.store)

    def timings(self) -> dict[str, Timing]:
        """Return nothing: no loop runs."""
        return {}

    def readings(self) -> dict[str, dict[str, Any]]:
        """Return nothing: no node is read."""
        return {}

    def wake(self) -> None:
        """Do nothing."""


def measure(_bed: Bed | None, n: int = 30) -> list[Figure]:
    """Measure `n` repetitions, in milliseconds."""
    before = os.environ.get("UGRO_DATA")
    with tempfile.TemporaryDirectory(prefix="ugro-runs-") as name:
        os.environ["UGRO_DATA"] = name
        try:
            view = View(Path(name))
            figures = [Figure("experiments_list_1000_runs", "ms", _list(view.store, n), ALL_LIMIT_MS)]
            with served(view, Path(name), free_port()) as link:
                figures.append(Figure(NAME, "ms", _pages(link, n), LIMIT_MS))
            view.store.close()
        finally:
            if before is None:
                os.environ.pop("UGRO_DATA", None)
            else:
                os.environ["UGRO_DATA"] = before
    return figures


def _list(store: Store, n: int) -> list[float]:
    experiments.ls(store)  # opens the connection
    taken = []
    for _ in range(n):
        begun = time.perf_counter()
        found = experiments.ls(store, sort="loss")
        taken.append(1e3 * (time.perf_counter() - begun))
        if len(found.rows) != RUNS or not found.rows[0].spark:
            raise RuntimeError(f"{len(found.rows)} experiments were listed")
    return taken


def _pages(link: str, n: int) -> list[float]:
    base = link.partition("/login")[0]
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    opener.open(link, timeout=60).read()
    taken = []
    for number in range(-len(PAGES), n):  # each once before it counts: templates are compiled, connections opened
        begun = time.perf_counter()
        text = opener.open(f"{base}/experiments{PAGES[number % len(PAGES)]}", timeout=60).read()
        if number >= 0:
            taken.append(1e3 * (time.perf_counter() - begun))
        if b"run-0" not in text:
            raise RuntimeError("the page shows no experiment")
    return taken


def _fill(store: Store) -> None:
    """Write the experiments as the ends of jobs leave them, in one transaction."""
    chance = random.Random(7)
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    rows, figures, tags = [], [], []
    for number in range(1, RUNS + 1):
        at = begun + timedelta(minutes=40 * number)
        end = at + timedelta(minutes=30)
        model = chance.choice(("tiny-llama", "llama-7b", "llama-13b"))
        losses = [round(2 + 8 / (1 + step) + chance.random() / 5, 4) for step in range(32)]
        rows.append({
            "id": number, "name": f"run-{number:06d}", "user": chance.choice(("ob", "eva", "kim")),
            "status": chance.choice(("completed", "completed", "completed", "failed", "stopped")), "reason": "",
            "request": {"name": f"run-{number:06d}", "model": model, "dataset": "python-docs", "args": ["--lr", "0.1"]},
            "created_at": at, "started_at": at, "ended_at": end,
        })  # fmt: skip
        summary = {"steps": 1000, "loss_last": {"step": 1000, "loss": losses[-1]}, "spark": losses}
        figures.append({
            "job_id": number, "model": model, "dataset": "python-docs", "note": "as before\nbut warmer", "steps": 1000,
            "duration_s": 1800.0, "loss_last": losses[-1], "loss_best": min(losses), "gpu_hours": 2.0,
            "throughput_tokens_sec": 1000 * chance.random(), "energy_kwh": chance.random(), "spark": losses,
            "figures": summary, "figures_at": end, "figures_of": end,
        })  # fmt: skip
        tags += [{"job_id": number, "tag": tag} for tag in ("good", "paper/1") if chance.random() < 0.3]
    with store.database.write() as connection:
        for table, values in ((jobs, rows), (kept, figures), (job_tags, tags)):
            connection.execute(insert(table), values)
