"""The dashboard's page of all experiments ever run: filtered, searched, sorted, with curves, to be compared."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from markupsafe import Markup
from starlette.responses import HTMLResponse

from ugro_py import experiments
from ugro_py.api.auth import Agent
from ugro_py.errors import UsageError
from ugro_py.state import Store
from ugro_py.state.experiment_row import ExperimentRow
from ugro_py.web import svg
from ugro_py.web.live import Look, Parts, live, live_url
from ugro_py.web.render import html, ident, render
from ugro_py.web.session import Viewer

router = APIRouter(include_in_schema=False)

SIZE = 50
MOST_CHOSEN = 50
ROUNDS = 3
"""So many seconds at least are between two looks at the list."""
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
_ASKED = ("q", "status", "user", "tag", "where", "sort")


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
    job: Annotated[list[str] | None, Query(max_length=200)] = None,
) -> HTMLResponse:
    """Show a page of the experiments that fit; `job` are those that were chosen, on this page or another."""
    asked = {"q": q, "status": status, "user": user, "tag": tag, "where": where, "sort": sort}
    chosen = tuple(dict.fromkeys(name[:200] for name in job or () if name))[:MOST_CHOSEN]
    refused = ""
    found: tuple[tuple[ExperimentRow, ...], int] = ((), 0)
    try:
        found = _found(agent.store, asked, page)
    except UsageError as error:
        refused = str(error)
    made = _parts(*found, asked, page, chosen, refused=bool(refused))
    # Made of our own templates, which escape what they show.
    parts = {name: Markup(text) for name, text in made.items()}  # noqa: S704
    shown = {row.job for row in found[0]}
    return render(
        request, "experiments.html", title="Experiments", asked=asked, refused=refused, statuses=STATUSES,
        columns=[_column(asked, chosen, *column) for column in COLUMNS], chosen=chosen,
        elsewhere=[name for name in chosen if name not in shown], parts=parts, filtered=_filtered(asked),
        rows=[text for name, text in parts.items() if name.startswith("row-")],
        clear=_address({"sort": asked["sort"]}, chosen), unchosen=_address(asked, (), page=page if page > 1 else ""),
        live_url="" if refused else live_url("experiments", {**asked, "page": str(page)}),
    )  # fmt: skip


@live("experiments", ROUNDS)
def parts(look: Look) -> Parts:
    """Make the rows of one page of the list, and what is told of the whole."""
    asked = {"sort": "-created", **{key: value for key, value in look.query.items() if key in _ASKED}}
    number = look.query.get("page", "1")
    page = int(number) if number.isascii() and number.isdigit() and len(number) < 8 else 1
    return _parts(*_found(look.agent.store, asked, max(1, page)), asked, max(1, page))


def _found(store: Store, asked: Mapping[str, str], page: int) -> tuple[tuple[ExperimentRow, ...], int]:
    """Return the rows of a page, and how many there are of all pages; UsageError if that cannot be asked."""
    filters = [f"{key}={asked[key]}" for key in ("status", "user", "tag") if asked.get(key)]
    found = experiments.ls(
        store, filters=[*filters, *asked.get("where", "").split()], search=asked.get("q", ""), sort=asked["sort"],
        limit=SIZE, offset=(page - 1) * SIZE,
    )  # fmt: skip
    return found.rows, found.total


def _parts(
    rows: Collection[ExperimentRow],
    total: int,
    asked: Mapping[str, str],
    page: int,
    chosen: Collection[str] = (),
    refused: bool = False,
) -> dict[str, str]:
    """Return the HTML of what changes: how many there are, each row, what is said without any, and the other pages."""
    pages = max(1, -(-total // SIZE))
    about = {
        "total": total, "shown": len(rows), "first": (page - 1) * SIZE, "page": page, "pages": pages,
        "refused": refused, "filtered": _filtered(asked), "clear": _address({"sort": asked["sort"]}, chosen),
        "first_page": _address(asked, chosen),
        "previous": _address(asked, chosen, page=page - 1) if page > 1 else None,
        "next": _address(asked, chosen, page=page + 1) if page < pages else None,
    }  # fmt: skip
    made = {"experiments-count": html("parts/experiments_count.html", **about)}
    for row in rows:
        name = f"row-{ident(row.job)}"
        made[name] = html(
            "parts/experiments_row.html", id=name, row=row, chosen=chosen, spark=svg.spark, figure=svg.figure
        )
    made["experiments-none"] = html("parts/experiments_none.html", **about)
    made["experiments-pages"] = html("parts/experiments_pages.html", **about)
    return made


def _filtered(asked: Mapping[str, str]) -> bool:
    return any(value for key, value in asked.items() if key != "sort")


def _column(
    asked: Mapping[str, str], chosen: Collection[str], key: str | None, title: str, kind: str
) -> dict[str, Any]:
    """Return a column's heading: where its link leads, and how the table is sorted by it now."""
    if key is None:
        return {"key": None, "title": title, "kind": kind, "href": None, "sorted": None}
    now = {key: "ascending", f"-{key}": "descending"}.get(asked["sort"])
    first, second = (f"-{key}", key) if key in _FALLING else (key, f"-{key}")
    return {
        "key": key, "title": title, "kind": kind, "sorted": now,
        "href": _address(asked, chosen, sort=second if asked["sort"] == first else first),
    }  # fmt: skip


def _address(asked: Mapping[str, str], chosen: Collection[str], **other: object) -> str:
    values = {key: value for key, value in {**asked, **other}.items() if value and (key, value) != ("sort", "-created")}
    pairs = [*values.items(), *(("job", name) for name in chosen)]
    return f"/experiments?{urlencode(pairs)}" if pairs else "/experiments"
