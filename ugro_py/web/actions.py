"""What the dashboard's buttons do: the same functions as the API's routes, with the rights of who is signed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from ugro_py.api.auth import Agent, Caller
from ugro_py.api.models import Again, Drain, Move, Priority, Stop
from ugro_py.api.routes import again, changes, experiments, nodes
from ugro_py.api.view import AgentView
from ugro_py.errors import UsageError
from ugro_py.request import options
from ugro_py.web.errors import is_part
from ugro_py.web.pages.experiment import experiment_page
from ugro_py.web.render import render
from ugro_py.web.security import Form, local_path
from ugro_py.web.session import Viewer, session_of

router = APIRouter(include_in_schema=False)
jobs = APIRouter(prefix="/experiments/{job}", include_in_schema=False)


def answer(
    request: Request, form: Mapping[str, str], text: str, to: str, *, move: bool = False,
    part: str = "parts/notices.html", **shown: Any,
) -> Response:  # fmt: skip
    """Say what was done: on the page itself where htmx asked, else on the page that the browser goes on to.

    Args:
        request: what was asked.
        form: its fields; `next` may name the page to go on to.
        text: what was done.
        to: the page to go on to otherwise.
        move: go on to `to` in any case.
        part: the template that htmx gets, with `shown` and the notice.
    """
    request.app.state.live.changed()
    there = to if move else local_path(form.get("next", ""), to)
    session = session_of(request)
    if is_part(request) and not move:
        return render(request, part, notices=[("done", text)], **shown)
    if session is not None:
        session.notices = [*session.notices[-4:], ("done", text, there.partition("#")[2])]
    if is_part(request):
        return Response(status_code=204, headers={"hx-redirect": there})
    return RedirectResponse(there, 303)


def _did(request: Request, form: Mapping[str, str], job: str, done: Mapping[str, Any], yes: str, no: str) -> Response:
    text = f"Job {job} {yes if done['changed'] else no}."
    return answer(request, form, text, f"/experiments/{job}")


@jobs.post("/stop")
def stop(job: str, request: Request, agent: Agent, who: Viewer, form: Form) -> Response:
    """Ask for the end of a job."""
    force = form.get("force") == "yes"
    done = changes.stop(job, agent, who, Stop(force=force))
    yes = "was stopped" if done["status"] == "stopped" else "is being stopped"
    return _did(request, form, job, done, yes, "had ended already")


@jobs.post("/hold")
def hold(job: str, request: Request, agent: Agent, who: Viewer, form: Form) -> Response:
    """Keep a job that waits from starting."""
    return _did(request, form, job, changes.hold(job, agent, who), "is held", "was held already")


@jobs.post("/release")
def release(job: str, request: Request, agent: Agent, who: Viewer, form: Form) -> Response:
    """Let a job that was held start when its turn comes."""
    return _did(request, form, job, changes.release(job, agent, who), "was released", "was not held")


@jobs.post("/cancel")
def cancel(job: str, request: Request, agent: Agent, who: Viewer, form: Form) -> Response:
    """Take a job that waits out of the queue."""
    return _did(request, form, job, changes.cancel(job, agent, who), "was cancelled", "had ended already")


@jobs.post("/priority")
def priority(job: str, request: Request, agent: Agent, who: Viewer, form: Form) -> Response:
    """Give a job that waits another priority."""
    value = options.priority(form.get("priority", ""))
    done = changes.priority(job, agent, who, Priority(priority=value))
    return _did(request, form, job, done, f"has priority {value}", f"had priority {value} already")


@jobs.post("/move")
def move(job: str, request: Request, agent: Agent, who: Viewer, form: Form) -> Response:
    """Move a job within the queue: `to` first or last, or `before` another job."""
    to, before = form.get("to") or None, form.get("before", "").strip() or None
    if to not in (None, "first", "last"):
        raise UsageError(f"move job {job}", "is to no place in the queue", "say first, last or before which job")
    done = changes.move(job, agent, who, Move(to=None if before else to, before=before))
    where = f"before {before}" if before else f"{to} among the jobs of its user and priority"
    return _did(request, form, job, done, f"was moved {where}", "was there already")


@jobs.post("/resume")
def resume(job: str, request: Request, agent: Agent, who: Viewer, form: Form) -> Response:
    """Put a failed or stopped job back into the queue, to go on from its newest checkpoint."""
    return _did(request, form, job, again.resume(job, request, agent, who, _again()), "is in the queue again", "")


@jobs.post("/rerun")
def rerun(job: str, request: Request, agent: Agent, who: Viewer, form: Form) -> Response:
    """Put a new job with the request and the code of this one into the queue, and go on to it."""
    done = again.rerun(job, request, agent, who, _again(form.get("name", "").strip() or None))
    text = f"Job {done['job']} is in the queue, with the request and the code of {job}."
    return answer(request, form, text, f"/experiments/{done['job']}", move=True)


@jobs.post("/note")
def note(job: str, request: Request, agent: Agent, who: Viewer, form: Form) -> Response:
    """Replace the note of a job."""
    # A browser sends the ends of lines of a text as CRLF.
    text = form.get("text", form.get("note", "")).replace("\r\n", "\n")
    try:
        done = experiments.put_note(job, agent, who, experiments.Note(text=text))
    except UsageError as error:
        return _typed_again(request, agent, who, job, {"note": text}, error)
    return answer(request, form, f"The note of job {job} was {'kept' if done['changed'] else 'as it is already'}.",
                  f"/experiments/{job}")  # fmt: skip


@jobs.post("/tags")
def tags(job: str, request: Request, agent: Agent, who: Viewer, form: Form) -> Response:
    """Give a job the tags that are named, by spaces or commas between them."""
    wanted = form.get("tags", "").replace(",", " ").split()
    try:
        done = _checked(lambda: experiments.Tags(tags=wanted), "tags")
        found = experiments.put_tags(job, agent, who, done)["tags"]
    except UsageError as error:
        return _typed_again(request, agent, who, job, {"tags": form.get("tags", "")}, error)
    text = f"Job {job} has the tags {', '.join(found)}." if found else f"Job {job} has no tags."
    return answer(request, form, text, f"/experiments/{job}", part="parts/experiment_tagged.html", tags=found)


def _typed_again(
    request: Request, agent: AgentView, who: Caller, job: str, typed: Mapping[str, str], error: UsageError
) -> Response:
    """Answer to what cannot be kept: where no script has it typed still, the page again, with it and what is wrong."""
    if is_part(request):
        raise error
    return experiment_page(request, agent, who, job, typed=typed, wrong=dict.fromkeys(typed, error))


@router.post("/nodes/{node}/drain")
def drain(node: str, request: Request, agent: Agent, who: Viewer, form: Form) -> Response:
    """Keep new jobs away from a node."""
    body = _checked(lambda: Drain(reason=" ".join(form.get("reason", "").split())), "reason")
    done = nodes.drain(node, agent, who, body)
    text = f"Node {node} gets no new jobs." if done["changed"] else f"Node {node} was drained already."
    return answer(request, form, text, "/health")


@router.post("/nodes/{node}/resume")
def resume_node(node: str, request: Request, agent: Agent, who: Viewer, form: Form) -> Response:
    """Let jobs onto a node again."""
    done = nodes.resume(node, agent, who)
    text = f"Node {node} gets jobs again." if done["changed"] else f"Node {node} was not drained."
    return answer(request, form, text, "/health")


def _again(name: str | None = None) -> Again:
    return Again(name=name, time_limit_s=None)


def _checked(make: Callable[[], Any], what: str) -> Any:
    """Return a request of the API; UsageError where a value is too long or of no use."""
    from pydantic import ValidationError

    try:
        return make()
    except ValidationError as error:
        raise UsageError(what, str(error.errors()[0]["msg"]), "correct it") from error
