"""The dashboard's page of one experiment: its state, curves, ranks, logs, events, files, capsule and notes, live."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response, StreamingResponse

from ugro_py import experiments, pace, status
from ugro_py.api import sse
from ugro_py.api.auth import Agent, Caller
from ugro_py.api.statuses import status_of
from ugro_py.api.view import AgentView
from ugro_py.errors import NotFoundError, UgroError
from ugro_py.paths import JobPaths
from ugro_py.state import JobRow
from ugro_py.web import chart_sets, svg
from ugro_py.web.capsule_view import capsule_view
from ugro_py.web.following import watch_of
from ugro_py.web.job_stream import JobStream, Place, read_places, write_places
from ugro_py.web.kept import kept_of
from ugro_py.web.pages import artifacts, logs
from ugro_py.web.render import html, render
from ugro_py.web.session import Viewer

router = APIRouter(prefix="/experiments/{job}", include_in_schema=False)

_EVENTS = 60
_FILES = 50
_READ_AT_ONCE = 8 << 20
PARTS = ("facts", "ranks", "events")
"""Parts that change while the job runs; the same for all who look."""


@router.get("")
def show_experiment(
    job: str,
    request: Request,
    agent: Agent,
    who: Viewer,
    rank: str | None = Query(None, pattern="^(all|[0-9]{1,6})$"),
    attempt: int | None = Query(None, ge=1, le=1_000_000),
    part: Literal["page", "actions", "rest"] = "page",
) -> HTMLResponse:
    """Show an experiment, complete as it is now; its script keeps it so, with `part`s of the page."""
    if part == "actions":
        return render(request, "parts/experiment_actions.html", **_owned(agent, job, who))
    if part == "rest":
        context = _owned(agent, job, who)
        choice = logs.choice_of(agent, job, rank, attempt)
        return render(
            request,
            "parts/experiment_rest.html",
            **context,
            **_rest(agent, who, context),
            choice=choice,
            q="",
            tail=True,
        )
    return experiment_page(request, agent, who, job, rank, attempt)


def experiment_page(
    request: Request, agent: AgentView, who: Caller, job: str, rank: str | None = None, attempt: int | None = None, *,
    typed: Mapping[str, str] = MappingProxyType({}), wrong: Mapping[str, UgroError] = MappingProxyType({}),
) -> HTMLResponse:  # fmt: skip
    """Return the page of an experiment.

    Args:
        request: what is answered.
        agent: whose store it is in.
        who: looks.
        job: its name.
        rank: whose log is shown, or "all".
        attempt: of that log; the newest where none is given.
        typed: what is in the fields `tags` and `note` instead of what is kept,
        wrong: and why it cannot be kept; the status of the answer says so too.
    """
    context = _owned(agent, job, who)
    row = context["job"]
    choice = logs.choice_of(agent, job, rank, attempt)
    windows = logs.windows(choice, None)
    places = {window["rank"]: Place(window["inode"], window["end"]) for window in windows}
    return render(
        request, "experiment.html", **context, choice=choice, windows=windows, places=write_places(places),
        q="", matches=None, at_end=True, tail=True, tags=agent.store.tags(job), note=agent.store.note(job), typed=typed,
        wrong=wrong, still=_still(request, job, row.active), **_rest(agent, who, context),
        here=f"/experiments/{quote(job, safe='')}", status=max(map(status_of, wrong.values()), default=200),
    )  # fmt: skip


@router.get("/charts")
def show_charts(
    job: str,
    request: Request,
    agent: Agent,
    who: Viewer,
    by: chart_sets.By = "step",
    ranks: chart_sets.Ranks = "mean",
    smooth: float = Query(0.0, ge=0.0, le=0.999),
    points: int = Query(800, ge=10, le=5000),
    more: Annotated[list[str] | None, Query(max_length=256)] = None,
) -> Response:
    """Return the charts of an experiment as JSON, and of `more` than are drawn unasked; made once for all who look."""
    agent.store.job(job)
    wanted = chart_sets.Wanted(by, ranks, smooth, points, tuple(more or ()))
    return _tagged(request, *kept_of(request.app).get(job, wanted, _charts(job, wanted)))


@router.get("/samples")
def show_samples(job: str, request: Request, agent: Agent, who: Viewer) -> Response:
    """Return charts of what the nodes measured while the job ran, as `/charts` does those of its metrics."""
    agent.store.job(job)
    found = kept_of(request.app).get(job, "samples", lambda: _or_nothing(lambda: chart_sets.sample_set(job)))
    return _tagged(request, *found)


@router.get("/live", response_model=None)
async def follow(
    job: str,
    request: Request,
    agent: Agent,
    who: Viewer,
    rank: str = Query("0", pattern="^(all|[0-9]{1,6})$"),
    logs: bool = True,
    places: str = Query("", max_length=20_000),
) -> StreamingResponse:
    """Stream what changes: lines of logs as they are written, parts of the page, and that there are new metrics."""
    name = (await run_in_threadpool(agent.store.job, job)).name
    watch = watch_of(request.app, name, lambda: _parts(agent, name))
    stream = JobStream(
        name, watch, rank=None if rank == "all" else int(rank), logs=logs,
        places=read_places(request.headers.get("last-event-id") or places),
    )  # fmt: skip
    return sse.stream(stream.messages(request))


def _owned(agent: AgentView, job: str, who: Caller) -> dict[str, Any]:
    """Return what the page and its actions show, of a job that may be the viewer's own."""
    context = _shared(agent, job)
    row = context["job"]
    return context | {"title": row.name, "owner": who.admin or row.user == who.person.user}


def _rest(agent: AgentView, who: Caller, context: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a job's figures, files and run capsule."""
    row: JobRow = context["job"]
    files, total = artifacts.artifacts_of(row.name, agent, who, _FILES)
    return {
        "artifacts": files,
        "artifacts_total": total,
        "capsule": capsule_view(row.name, owner=context["owner"]),
        "figures": _figures(agent, row),
        "cell": svg.cell,
    }


def _shared(agent: AgentView, job: str) -> dict[str, Any]:
    """Return what the changing parts of the page show."""
    state = status.status_of(agent.store, job, agent.cluster)
    row = agent.store.job(job)
    if row.status != state["status"]:  # it changed in between
        state = status.status_of(agent.store, job, agent.cluster)
    return {
        "job": row,
        "state": state,
        "active": row.active,
        "progress": pace.progress(
            JobPaths(job), state["elapsed_seconds"] if row.status == "running" else None, len(state["ranks"])
        ),
        "events": list(reversed(agent.store.events(job, limit=_EVENTS))),
        "figure": svg.figure,
    }


def _parts(agent: AgentView, job: str) -> tuple[bool, Mapping[str, str]]:
    context = _shared(agent, job)
    return not context["active"], {name: html(f"parts/experiment_{name}.html", **context) for name in PARTS}


def _charts(job: str, wanted: chart_sets.Wanted) -> Callable[[], object]:
    return lambda: _or_nothing(lambda: chart_sets.chart_set(job, wanted))


def _or_nothing(make: Callable[[], object]) -> object:
    try:
        return make()
    except NotFoundError:
        return {"charts": [], "left_out": []}  # it has not begun


def _tagged(request: Request, tag: str, answer: bytes) -> Response:
    headers = {"etag": tag, "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(answer, media_type="application/json", headers=headers)


def _figures(agent: AgentView, row: JobRow) -> list[dict[str, Any]]:
    """Return what the job achieved; of one that runs only where that is read in a moment."""
    try:
        if row.active and JobPaths(row.name).metrics.stat().st_size > _READ_AT_ONCE:
            return []
    except FileNotFoundError:
        return []
    found = experiments.compare(agent.store, [row.name], code=False, settings=agent.cluster.settings)
    return [figure.to_json() for figure in found.figures]


def _still(request: Request, job: str, active: bool) -> dict[str, Any] | None:
    """Return the loss curve as it is shown without a script; a script will ask for all of them in a moment."""
    kept, usual = kept_of(request.app), chart_sets.Wanted()
    kept.ahead(job, usual, _charts(job, usual))
    known = kept.last(job, usual) if active else None
    if known is None:
        _, known = kept.get(job, "loss", lambda: {"charts": [chart_sets.one_chart(job, "training_loss", usual)]})
    charts = [chart for chart in json.loads(known)["charts"] if chart]
    loss = next((chart for chart in charts if chart["column"] == "training_loss"), charts[0] if charts else None)
    drawn = svg.still(loss) if loss else None
    return {"chart": loss, "drawn": drawn} if drawn else None
