"""The dashboard's page of a job's logs: each rank's in parts, of any attempt, and a search; as JSON for its script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import JSONResponse, Response

from ugro_py.api.auth import Agent
from ugro_py.api.view import AgentView
from ugro_py.logs import choose_ranks
from ugro_py.paths import JobPaths
from ugro_py.web import log_view
from ugro_py.web.render import render
from ugro_py.web.session import Viewer

router = APIRouter(prefix="/experiments/{job}", include_in_schema=False)

LINES = 200
_LONGEST_SEARCH = 200
_MOST_SEARCHED = 64
_SEARCH_S = 3.0  # for all ranks together: a thread of the agent is busy with it


@dataclass(frozen=True)
class Choice:
    """Which log is wanted: the attempts and ranks there are, and those that were chosen (None: all ranks)."""

    paths: JobPaths
    attempts: tuple[int, ...]
    attempt: int
    ranks: tuple[int, ...]
    rank: int | None

    @property
    def live(self) -> bool:
        """Whether these logs may still grow."""
        return not self.attempts or self.attempt == self.attempts[-1]

    def name_of(self, rank: int) -> str | None:
        """Return the log of a rank, relative to the job's folder."""
        return log_view.name_of(self.paths, rank, self.attempt, self.attempts[-1] if self.attempts else 1)

    @property
    def chosen(self) -> Sequence[int]:
        """The ranks to show."""
        return self.ranks if self.rank is None else (self.rank,)


def choice_of(agent: AgentView, job: str, rank: str | None, attempt: int | None) -> Choice:
    """Return what a page asks for; without a rank it is the first one.

    Raises:
        NotFoundError: there is no such job, or the job has no such rank.
    """
    paths = JobPaths(agent.store.job(job).name)
    newest = agent.store.attempt(job)
    attempts = tuple(range(1, newest.number + 1)) if newest else ()
    number = attempt if attempt in attempts and attempt is not None else (attempts[-1] if attempts else 1)
    ranks = tuple(choose_ranks(paths, "all", [known.rank for known in agent.store.ranks(job)]))
    if rank is None:
        # A job that has not started has no ranks yet; as soon as it has, the first one is what the page follows.
        return Choice(paths, attempts, number, ranks or (0,), ranks[0] if ranks else 0)
    if rank != "all":
        choose_ranks(paths, rank, ranks)
    return Choice(paths, attempts, number, ranks, None if rank == "all" else int(rank))


def windows(choice: Choice, place: int | None, *, forward: bool = False, lines: int = LINES) -> list[dict[str, Any]]:
    """Return a window of each chosen rank's log, for templates and scripts alike."""
    found = []
    each = max(20, lines // max(len(choice.chosen), 1))
    for rank in choice.chosen:
        name = choice.name_of(rank)
        if name is None:
            window = log_view.NOTHING
        elif forward:
            window = log_view.after(choice.paths, name, place or 0, last=True, limit=each)
        else:
            window = log_view.before(choice.paths, name, place, each)
        found.append(
            {
                "rank": rank, "lines": [line.to_json() for line in window.lines], "partial": window.partial,
                "start": window.start, "end": window.end, "size": window.size, "inode": window.inode,
                "kept": name is not None, "name": name,
            }
        )  # fmt: skip
    return found


def matches(choice: Choice, text: str, before: int | None) -> list[dict[str, Any]]:
    """Return what a search found in each chosen rank's log; one rank can be searched on from `before`."""
    found = []
    ranks = choice.chosen[:_MOST_SEARCHED]
    most_s = min(1.0, _SEARCH_S / max(len(ranks), 1))
    for rank in ranks:
        name = choice.name_of(rank)
        nothing = log_view.Found((), None)
        result = log_view.search(choice.paths, name, text, before, most_s=most_s) if name else nothing
        found.append(
            {
                "rank": rank,
                "lines": [line.to_json() for line in result.lines],
                "next_before": result.next_before,
            }
        )
    return found


def _chosen(
    job: str,
    agent: Agent,
    rank: str | None = Query(None, pattern="^(all|[0-9]{1,6})$"),
    attempt: int | None = Query(None, ge=1, le=1_000_000),
) -> Choice:
    return choice_of(agent, job, rank, attempt)


@router.get("/logs")
def show_logs(
    job: str,
    request: Request,
    agent: Agent,
    who: Viewer,
    choice: Annotated[Choice, Depends(_chosen)],
    before: int | None = Query(None, ge=0, le=1 << 60),
    after: int | None = Query(None, ge=0, le=1 << 60),
    q: str = Query("", max_length=_LONGEST_SEARCH),
    form: Literal["page", "json"] = "page",
) -> Response:
    """Show the end of a log, the lines before or after a place in it, or what a search finds."""
    found = matches(choice, q, before) if q else None
    shown = [] if q else windows(choice, before if after is None else after, forward=after is not None)
    if form == "json":
        values = {"windows": shown, "matches": found, "attempt": choice.attempt, "live": choice.live}
        return JSONResponse(values, headers={"cache-control": "no-store"})
    row = agent.store.job(job)
    return render(
        request, "logs.html", title=f"Logs of {row.name}", job=row, choice=choice, windows=shown, matches=found, q=q,
        at_end=before is None and after is None, tail=False,
    )  # fmt: skip
