"""The form to launch a job: UGRO's own training, or a script with its files; or only to see what that would do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response

from ugro_py.api.auth import Agent
from ugro_py.api.guard import BODY_LIMIT, FORM_LIMIT
from ugro_py.api.models import Submission
from ugro_py.api.routes import submit
from ugro_py.api.statuses import status_of
from ugro_py.api.view import AgentView
from ugro_py.errors import UgroError
from ugro_py.request.options import NUMBERS
from ugro_py.request.sources import EMBEDDED_DATASET, presets
from ugro_py.web.actions import answer
from ugro_py.web.errors import is_part
from ugro_py.web.launch_check import check
from ugro_py.web.launch_fields import HIDDEN, LABELS, field_of, wanted
from ugro_py.web.render import render
from ugro_py.web.sent_files import MOST_FILES
from ugro_py.web.session import Viewer
from ugro_py.web.upload_form import read_upload_form

router = APIRouter(include_in_schema=False)


@router.get("/launch")
def show(request: Request, who: Viewer) -> HTMLResponse:
    """Show the form."""
    return _page(request, {})


@router.post("/launch")
async def launch(request: Request, agent: Agent, who: Viewer) -> Response:
    """Put a job into the queue: what POST /v1/jobs does. With `do=check` only say what that would do.

    A form that cannot be used is shown again, with all that was typed (but secrets) and what is wrong with it.
    """
    form: dict[str, str] = {}
    again: list[str] = []
    try:
        async with read_upload_form(request, who) as read:
            form, again = read.fields, read.again()
            if read.refused is not None:
                raise read.refused
            values, secrets, wrong = await run_in_threadpool(wanted, form, bool(read.sent))
            if wrong:
                return await run_in_threadpool(_page, request, form, again, wrong)
            upload, entry = await read.upload()
        values = _defaults(agent) | values
        if entry is not None:
            values["script"] = entry
        if form.get("do") == "check":
            found = await run_in_threadpool(check, request, agent, who, values, upload, secrets)
            return await run_in_threadpool(_page, request, form, again, plan=found)
        body = Submission(request=values, upload=upload, secrets=secrets)
        done = await run_in_threadpool(submit.submit, request, agent, body)
    except UgroError as error:
        if not form:
            raise  # it is no form of ours, or there is no room for it
        return await run_in_threadpool(_page, request, form, again, {field_of(error): error})
    text, there = f"Job {done['job']} is in the queue.", f"/experiments/{done['job']}"
    return await run_in_threadpool(answer, request, form, text, there, move=True)


def _defaults(agent: AgentView) -> dict[str, Any]:
    """Return what `ugro launch` takes from the inventory for options that are not given."""
    usual, settings = agent.cluster.training, agent.cluster.settings
    return {"model": usual.model, "dataset": usual.dataset, "epochs": usual.epochs, "retry": settings.retry}


def _page(
    request: Request, form: Mapping[str, str], again: Sequence[str] = (),
    wrong: Mapping[str, UgroError] | None = None, plan: Mapping[str, Any] | None = None,
) -> HTMLResponse:  # fmt: skip
    """Return the form with what was typed, and what came of it; only that for htmx, which leaves the form as it is.

    `again` are the fields that have to be filled in again where the page is made anew: browsers put no files back.
    """
    agent = request.app.state.agent
    values = {
        "form": {name: value for name, value in form.items() if name not in HIDDEN},
        "wrong": wrong or {}, "plan": plan, "labels": LABELS,
        "again": [LABELS[name] for name in again],
    }  # fmt: skip
    status = max(map(status_of, wrong.values())) if wrong else 200
    if is_part(request):
        return render(request, "parts/launch_answer.html", status, **values)
    return render(
        request, "launch.html", status, title="Launch", presets=presets(), datasets=(EMBEDDED_DATASET,),
        defaults=agent.cluster.training, node_names=[node.name for node in agent.cluster.nodes],
        most_bytes=FORM_LIMIT - BODY_LIMIT, most_files=MOST_FILES, numbers=NUMBERS, **values,
    )  # fmt: skip
