"""All experiments: listed, compared; and what people say of them, tags and notes."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from ugro_py import experiments
from ugro_py.api.auth import Agent, Who, audited, check_owner
from ugro_py.experiments.filters import TAGS_AT_MOST

router = APIRouter(prefix="/v1", tags=["experiments"])

_WAIT_S = 2.0  # for figures that are not known yet; a page that comes again soon need not wait so long
_Job = Annotated[list[str], Query(max_length=50)]


class Tags(BaseModel):
    """The tags a job is to have, or changes of those it has: `+good`, `-bad`."""

    model_config = ConfigDict(extra="forbid")

    tags: list[str] | None = Field(None, max_length=TAGS_AT_MOST)
    change: list[str] = Field(default_factory=list, max_length=2 * TAGS_AT_MOST)


class Note(BaseModel):
    """The note of a job; an empty one removes it."""

    model_config = ConfigDict(extra="forbid")

    text: str


class Experiments(BaseModel):
    """A part of the list of experiments, and how many the whole list has."""

    experiments: list[dict[str, Any]]
    total: int


class Comparison(BaseModel):
    """Jobs side by side: values are in the order of `jobs`."""

    jobs: list[str]
    figures: list[dict[str, Any]]
    differences: list[dict[str, Any]]
    code: list[dict[str, Any]]
    without_capsule: list[str]


@router.get("/experiments", responses={200: {"model": Experiments}}, response_model=None)
def list_experiments(
    agent: Agent,
    who: Who,
    filter: Annotated[list[str] | None, Query(max_length=20)] = None,
    search: Annotated[str, Query(max_length=200)] = "",
    sort: str = "-created",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> dict[str, Any]:
    """List experiments. `filter` is `status=failed`, `tag=good` or `loss<3.2`; `sort` is `loss` or `-created`."""
    asked: dict[str, Any] = {"filters": filter or (), "search": search, "sort": sort, "limit": limit, "offset": offset}
    return experiments.ls(agent.store, **asked, wait_s=_WAIT_S).to_json()


@router.get("/tags")
def list_tags(agent: Agent, who: Who) -> dict[str, int]:
    """List every tag, and how many jobs have it."""
    return agent.store.all_tags()


@router.get("/compare", responses={200: {"model": Comparison}}, response_model=None)
def compare(agent: Agent, who: Who, job: _Job, loss: float | None = None, all: bool = False) -> dict[str, Any]:
    """Compare jobs. `loss`: also when each first reached it; `all`: also what they have in common.

    The difference of their code, their arguments and their environment are for who submitted all of them, and for
    admins.
    """
    own = who.admin or all_theirs(agent, who, job)
    options: dict[str, Any] = {"loss": loss, "everything": all, "code": own, "private": own}
    options["settings"] = agent.cluster.settings
    return experiments.compare(agent.store, job, **options).to_json()


def all_theirs(agent: Agent, who: Who, jobs: list[str]) -> bool:
    """Say whether the caller submitted all of these jobs; NotFoundError if there is none of a name."""
    return all(agent.store.job(name).user == who.person.user for name in jobs)


@router.get("/jobs/{job}/tags")
def show_tags(job: str, agent: Agent, who: Who) -> dict[str, Any]:
    """Show the tags of a job."""
    return {"job": job, "tags": list(agent.store.tags(job))}


@router.put("/jobs/{job}/tags")
def put_tags(job: str, agent: Agent, who: Who, body: Tags) -> dict[str, Any]:
    """Give a job these tags, or change those it has; its submitter and admins may."""
    with audited(agent, who, "tag", job, {"tags": body.tags, "change": body.change}):
        check_owner(agent, who, job, "tag")
        changed = agent.store.set_tags(job, body.tags, body.change)
    if changed:
        experiments.refresh_notes(job, agent.store)
    return {"job": job, "tags": list(agent.store.tags(job)), "changed": changed}


@router.get("/jobs/{job}/note")
def show_note(job: str, agent: Agent, who: Who) -> dict[str, Any]:
    """Show the note of a job."""
    return {"job": job, "text": agent.store.note(job)}


@router.put("/jobs/{job}/note")
def put_note(job: str, agent: Agent, who: Who, body: Note) -> dict[str, Any]:
    """Replace the note of a job; its submitter and admins may."""
    with audited(agent, who, "note", job, {"characters": len(body.text)}):
        check_owner(agent, who, job, "note")
        changed = agent.store.set_note(job, body.text)
    if changed:
        experiments.refresh_notes(job, agent.store)
    return {"job": job, "text": agent.store.note(job), "changed": changed}
