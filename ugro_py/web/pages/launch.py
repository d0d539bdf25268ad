"""The dashboard's form to launch a job: UGRO's own training, or one script."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response

from ugro_py import request_options
from ugro_py.api.auth import Agent, Caller
from ugro_py.api.models import Submission
from ugro_py.api.routes import submit
from ugro_py.errors import UgroError, UsageError
from ugro_py.queue import spool, spool_tar
from ugro_py.request_sources import EMBEDDED_DATASET, presets
from ugro_py.stage import bundle
from ugro_py.web.actions import answer
from ugro_py.web.render import render
from ugro_py.web.security import Form
from ugro_py.web.session import Viewer

router = APIRouter(include_in_schema=False)

SCRIPT = "script.py"
_NUMBERS = ("epochs", "nodes", "retry")


@router.get("/launch")
def show(request: Request, who: Viewer) -> HTMLResponse:
    """Show the form."""
    return _page(request, {})


@router.post("/launch")
async def launch(request: Request, agent: Agent, who: Viewer, form: Form) -> Response:
    """Put a job into the queue: what POST /v1/jobs does; a form that cannot be used is shown again, with the reason."""
    try:
        values = wanted(form)
        upload = await _upload(request, who, form["code"]) if form.get("code", "").strip() else None
        if upload is not None:
            values["script"] = SCRIPT
        body = Submission(request=values, upload=upload)
        done = await run_in_threadpool(submit.submit, request, agent, body)
    except UgroError as error:
        return await run_in_threadpool(_page, request, form, error)
    return answer(request, form, f"Job {done['job']} is in the queue.", f"/experiments/{done['job']}", move=True)


def wanted(form: Mapping[str, str]) -> dict[str, Any]:
    """Return the request that the fields of the form make; what is empty is left to the defaults.

    Raises:
        UsageError: a field is no number, or no length of time.
    """
    given = {name: value.strip() for name, value in form.items() if value.strip()}
    found: dict[str, Any] = {name: given[name] for name in ("name", "model", "dataset") if name in given}
    for name in _NUMBERS:
        if name in given:
            found[name] = _number(name, given[name])
    gpus = request_options.gpus(given.get("gpus"))
    found |= {key: value for key, value in {
        "gpus": gpus.number, "min_vram_gb": gpus.min_vram_gb, "max_vram_gb": gpus.max_vram_gb,
    }.items() if value is not None}  # fmt: skip
    if "priority" in given:
        found["priority"] = request_options.priority(given["priority"])
    if "time_limit" in given:
        found["time_limit_s"] = request_options.time_limit(given["time_limit"])
    for name in ("include", "exclude"):
        if name in given:
            found[name] = given[name].replace(",", " ").split()
    if "args" in given:
        found["args"] = given["args"].split()
    if given.get("hold") == "yes":
        found["hold"] = True
    if form.get("code", "").strip():
        found.pop("model", None)
        found.pop("dataset", None)
        found.pop("epochs", None)
    return found


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UsageError(f"{name} {text!r:.40}", "is no whole number", "correct it")
    return int(text)


def _page(request: Request, form: Mapping[str, str], error: UgroError | None = None) -> HTMLResponse:
    agent = request.app.state.agent
    values = {"form": form, "error": error, "presets": presets(), "datasets": (EMBEDDED_DATASET,)}
    return render(request, "launch.html", 200 if error is None else 400, title="Launch", **values,
                  defaults=agent.cluster.training, node_names=[node.name for node in agent.cluster.nodes])  # fmt: skip


async def _upload(request: Request, who: Caller, code: str) -> str:
    """Take a script in as POST /v1/uploads does; returns the name of the upload."""
    packed = await run_in_threadpool(_packed, code.replace("\r\n", "\n"))
    uploads = request.app.state.submissions.uploads
    await uploads.turn(who.person.user)
    with uploads.receive(who.person.user, len(packed)) as incoming:
        await incoming.add(packed)
        name, _ = await incoming.unpacked()
    return str(name)


def _packed(code: str) -> bytes:
    stream = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / SCRIPT).write_text(code, encoding="utf-8")
        spool_tar.pack(spool.Sources(bundle(Path(folder))), stream)
    return stream.getvalue()
