"""The dashboard's page of all experiments ever run: filtered, searched, sorted, with curves, to be compared."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse

from ugro_py import experiments
from ugro_py.api.auth import Agent
from ugro_py.errors import UsageError
from ugro_py.web import svg
from ugro_py.web.render import render
from ugro_py.web.session import Viewer

router = APIRouter(include_in_schema=False)

SIZE = 50
STATUSES = ("pending", "running", "completed", "failed", "stopped")
COLUMNS = (
    ("job", "Job", ""),
    ("status", "Status", ""),
    ("user", "User", ""),
    ("model", "Model", ""),
    (None, "Loss curve", ""),
    ("loss", "Last loss", "num"),
    ("best", "Best loss", "num"),
    ("steps", "Steps", "num"),
    ("throughput", "Tokens/s", "num"),
    ("duration", "Duration", "num"),
    ("gpu_hours", "GPU h", "num"),
    ("created", "Created", ""),
)
"""Key to sort by, title, class."""
# Of numbers and times the greatest first, of a loss the least.
_FALLING = ("steps", "throughput", "duration", "gpu_hours", "created")


@router.get("/experiments")
def show_experiments(
    request: Request,
    agent: Agent,
    who: Viewer,
    q: str = Query("", max_length=200),
    status: str = Query("", max_length=40),
    user: str = Query("", max_length=100),
    tag: str = Query("", max_length=100),
    where: str = Query("", max_length=200),
    sort: str = Query("-created", max_length=40),
    page: int = Query(1, ge=1, le=1_000_000),
) -> HTMLResponse:
    """Show a page of the experiments that fit."""
    asked = {"q": q, "status": status, "user": user, "tag": tag, "where": where, "sort": sort}
    filters = [f"{key}={value}" for key, value in (("status", status), ("user", user), ("tag", tag)) if value]
    refused = ""
    try:
        found = experiments.ls(
            agent.store, filters=[*filters, *where.split()], search=q, sort=sort, limit=SIZE, offset=(page - 1) * SIZE
        )
    except UsageError as error:
        refused = str(error)
        found = experiments.ls(agent.store, limit=0)
    pages = max(1, -(-found.total // SIZE))
    return render(
        request, "experiments.html", title="Experiments", rows=found.rows, total=found.total, asked=asked,
        refused=refused, columns=[_column(asked, *column) for column in COLUMNS], statuses=STATUSES, page=page,
        pages=pages, first=(page - 1) * SIZE, links=_links(asked, page, pages), spark=svg.spark, figure=svg.figure,
        filtered=any(value for key, value in asked.items() if key != "sort"),
    )  # fmt: skip


def _column(asked: dict[str, str], key: str | None, title: str, kind: str) -> dict[str, Any]:
    """Return a column's heading: where its link leads, and how the table is sorted by it now."""
    if key is None:
        return {"key": None, "title": title, "kind": kind, "href": None, "sorted": None}
    now = {key: "ascending", f"-{key}": "descending"}.get(asked["sort"])
    first, second = (f"-{key}", key) if key in _FALLING else (key, f"-{key}")
    return {
        "key": key, "title": title, "kind": kind, "sorted": now,
        "href": _address(asked, sort=second if asked["sort"] == first else first),
    }  # fmt: skip


def _links(asked: dict[str, str], page: int, pages: int) -> dict[str, str | None]:
    return {
        "previous": _address(asked, page=page - 1) if page > 1 else None,
        "next": _address(asked, page=page + 1) if page < pages else None,
        "clear": _address({"sort": asked["sort"]}),
    }


def _address(asked: dict[str, str], **other: object) -> str:
    values = {key: value for key, value in (asked | other).items() if value and (key, value) != ("sort", "-created")}
    return f"/experiments?{urlencode(values)}" if values else "/experiments"
