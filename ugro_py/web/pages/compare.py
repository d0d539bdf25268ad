"""The dashboard's page that lays experiments over each other: curves, figures, and in what they were run otherwise."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, FastAPI, Query, Request
from markupsafe import Markup
from starlette.responses import HTMLResponse, Response

from ugro_py import experiments
from ugro_py.api.auth import Agent, Caller
from ugro_py.api.routes.experiments import all_theirs
from ugro_py.api.view import AgentView
from ugro_py.errors import NotFoundError
from ugro_py.experiments.comparison import Comparison
from ugro_py.web import chart_sets, svg
from ugro_py.web.kept import json_answer, kept_of, mark_of
from ugro_py.web.live import Look, Parts, live, live_url
from ugro_py.web.render import html, render
from ugro_py.web.session import Viewer

router = APIRouter(include_in_schema=False)

MOST = 24
"""Experiments in one comparison: more lines nobody tells apart."""
ROUNDS = 5
"""So many seconds at least are between two looks at the runs, and so between two drawings of their curves."""
# All of what a run wrote is read for its figures: those of one that goes on may be so old, as in the list.
_FIGURES_S = 15.0
_LOSS = "training_loss"
_OFFERED = 200

_Jobs = Annotated[list[str] | None, Query(max_length=200)]
_Column = Annotated[str, Query(max_length=200)]
_Smooth = Annotated[float, Query(ge=0.0, le=0.999)]


@router.get("/compare")
def show_comparison(
    request: Request,
    agent: Agent,
    who: Viewer,
    job: _Jobs = None,
    add: Annotated[str, Query(max_length=200)] = "",
    column: _Column = _LOSS,
    by: chart_sets.By = "step",
    smooth: _Smooth = 0.0,
    log: str = Query("", max_length=10),
    loss: str = Query("", max_length=30),
) -> HTMLResponse:
    """Show experiments side by side; without any, what there is to choose from."""
    names, refused = _known(agent, [*(job or ()), *add.split()])
    options = {"column": column, "by": by, "smooth": smooth, "log": log, "loss": loss}
    offered = [row.job for row in experiments.ls(agent.store, limit=_OFFERED).rows]
    context: dict[str, Any] = {
        "title": "Compare", "jobs": [{"name": name, "without": _address([n for n in names if n != name], options)}
                                     for name in names],
        "refused": refused, "offered": [name for name in offered if name not in names], "options": options,
        "cell": svg.cell, "figure": svg.figure,
    }  # fmt: skip
    if names:
        reached = _number(loss)
        if loss.strip() and reached is None:
            refused.append(f"Time to the loss: {loss!r} is no number.")
        mark = _mark(names)  # before all that is read: what is written meanwhile is news
        found, own = _found(agent, who, names, reached, code=True)
        columns = _columns(names)
        chart = _overlay(request.app, names, column, by, smooth)
        # Made of our own templates, which escape what they show.
        parts = {name: Markup(text) for name, text in _parts(found, mark, columns).items()}  # noqa: S704
        context |= {
            "code": found.code, "hidden": not own, "columns": columns, "chart": chart, "drawn": svg.still(chart),
            "parts": parts, "live_url": live_url("compare", {"jobs": " ".join(names), "loss": loss}),
        }  # fmt: skip
    return render(request, "compare.html", **context)


@live("compare", ROUNDS)
def parts(look: Look) -> Parts:
    """Make the tables, now and then while runs go on, and a mark that is another when there is more to draw."""
    names, _ = _known(look.agent, look.query.get("jobs", "").split())
    if not names:
        return {}
    rows = [look.agent.store.job(name) for name in names]
    state = [(row.status, row.started_at, row.ended_at) for row in rows]
    mark, kept, now = _mark(names), look.memory, time.monotonic()
    old = not kept or (now - kept["at"] > _FIGURES_S and (kept["mark"] != mark or any(row.active for row in rows)))
    if old or kept["state"] != state:
        found, _ = _found(look.agent, look.who, names, _number(look.query.get("loss", "")))
        kept |= {"at": now, "mark": mark, "state": state, "found": found, "columns": _columns(names)}
    return _parts(kept["found"], mark, kept["columns"])


def _found(
    agent: AgentView, who: Caller, names: Sequence[str], loss: float | None, *, code: bool = False
) -> tuple[Comparison, bool]:
    """Return runs side by side, and whether who looks may see all of what they were run with."""
    own = who.admin or all_theirs(agent, who, list(names))
    settings = agent.cluster.settings
    shown = experiments.compare(
        agent.store, names, loss=loss, everything=True, code=own and code, private=own, settings=settings
    )
    return shown, own


def _parts(found: Comparison, mark: str, columns: list[tuple[str, str]]) -> dict[str, str]:
    """Return the HTML of what changes."""
    return {
        "compare-mark": html("parts/compare_mark.html", mark=mark, columns=json.dumps(columns)),
        "compare-figures": html("parts/compare_figures.html", found=found, cell=svg.cell),
        "compare-differences": html("parts/compare_differences.html", found=found, cell=svg.cell),
    }


def _mark(names: Sequence[str]) -> str:
    """Return what is another text as soon as one of the runs has written more."""
    return f"{abs(hash(tuple(mark_of(name) for name in names))):x}"


@router.get("/compare/chart")
def show_chart(
    request: Request,
    agent: Agent,
    who: Viewer,
    job: _Jobs = None,
    column: _Column = _LOSS,
    by: chart_sets.By = "step",
    smooth: _Smooth = 0.0,
) -> Response:
    """Return one line for each experiment as JSON; along time they all begin at 0 seconds."""
    names, _ = _known(agent, job or ())
    return json_answer(_overlay(request.app, names, column, by, smooth))


def _known(agent: AgentView, asked: Any) -> tuple[list[str], list[str]]:
    """Return the names of jobs that there are, each once, and why the others are left out."""
    names: list[str] = []
    refused = []
    for name in dict.fromkeys(asked):
        if not name:
            continue
        if len(names) >= MOST:
            refused.append(f"More than {MOST} experiments cannot be told apart: the rest is left out.")
            break
        try:
            names.append(agent.store.job(name).name)
        except NotFoundError as error:
            refused.append(str(error))
    return names, refused


def _columns(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return what there are curves of in any of the experiments: each column, and what people call it."""
    from ugro_py import series

    found: dict[str, None] = {}
    for name in names:
        try:
            found |= dict.fromkeys(chart_sets.columns_of(series.open_job(name)))
        except NotFoundError:
            continue  # it has not begun
    return [(name, chart_sets.title_of(name)) for name in found]


def _overlay(app: FastAPI, names: Sequence[str], column: str, by: chart_sets.By, smooth: float) -> dict[str, Any]:
    """Return one line of each experiment that has this column, as one chart.

    A line is made anew when its run has written more.
    """
    wanted = chart_sets.Wanted(by, "mean", smooth)
    lines = []
    unit = ""
    for index, name in enumerate(names):
        _, text = kept_of(app).get(
            name, ("compare", column, wanted), partial(chart_sets.one_chart, name, column, wanted)
        )
        chart = json.loads(text)
        if chart is None or not chart["lines"]:
            continue
        unit = chart.get("unit") or unit
        line = chart["lines"][0]
        xs = line["x"]
        start = next((x for x in xs if x is not None), 0) if by == "time" else 0
        lines.append({**line, "name": name, "colour": index, "x": [x if x is None else x - start for x in xs]})
    title = chart_sets.title_of(column)
    return {"column": column, "title": title, "unit": unit, "by": "since" if by == "time" else by, "lines": lines}


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


def _address(names: list[str], options: dict[str, Any]) -> str:
    """Return the address of a comparison."""
    usual = {"column": _LOSS, "by": "step", "smooth": 0.0, "log": "", "loss": ""}
    changed = [(key, value) for key, value in options.items() if value != usual[key]]
    return f"/compare?{urlencode([*(('job', name) for name in names), *changed])}"
