"""The dashboard's page that lays experiments over each other: curves, figures, and in what they were run otherwise."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, Response

from ugro_py import experiments
from ugro_py.api.auth import Agent
from ugro_py.api.routes.experiments import all_theirs
from ugro_py.api.view import AgentView
from ugro_py.errors import NotFoundError
from ugro_py.web import chart_sets, svg
from ugro_py.web.kept import json_answer
from ugro_py.web.render import render
from ugro_py.web.session import Viewer

router = APIRouter(include_in_schema=False)

MOST = 24
"""Experiments in one comparison: more lines nobody tells apart."""
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
        own = who.admin or all_theirs(agent, who, names)
        context["found"] = experiments.compare(
            agent.store,
            names,
            loss=reached,
            everything=True,
            code=own,
            private=own,
            settings=agent.cluster.settings,
        )
        context["hidden"] = not own
        context["columns"] = [(name, chart_sets.title_of(name)) for name in _columns(names)]
        chart = _overlay(names, column, by, smooth)
        context |= {"chart": chart, "drawn": svg.still(chart)}
    return render(request, "compare.html", **context)


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
    return json_answer(_overlay(names, column, by, smooth))


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


def _columns(names: list[str]) -> list[str]:
    """Return what there are curves of in any of the experiments."""
    from ugro_py import series

    found: dict[str, None] = {}
    for name in names:
        try:
            found |= dict.fromkeys(chart_sets.columns_of(series.open_job(name)))
        except NotFoundError:
            continue  # it has not begun
    return list(found)


def _overlay(names: list[str], column: str, by: chart_sets.By, smooth: float) -> dict[str, Any]:
    """Return one line of each experiment that has this column, as one chart."""
    lines = []
    unit = ""
    for index, name in enumerate(names):
        chart = chart_sets.one_chart(name, column, chart_sets.Wanted(by, "mean", smooth))
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
