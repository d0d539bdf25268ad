"""What a job writes, as it is written: logs as text, metrics as server-sent events."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from typing import Literal

from fastapi import APIRouter, Query, Request
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.responses import StreamingResponse

from ugro_py import logs
from ugro_py.api import sse
from ugro_py.api.auth import Agent, Who
from ugro_py.api.beneath import open_beneath
from ugro_py.api.standing import Download, Standing
from ugro_py.api.view import AgentView
from ugro_py.errors import NotFoundError
from ugro_py.paths import JobPaths

router = APIRouter(prefix="/v1/jobs/{job}", tags=["streams"])

_POLL_S = 0.2
_BLOCK = 1 << 18


@router.get("/logs", responses={200: {"content": {"text/plain": {}}}}, response_model=None)
async def get_logs(
    job: str,
    request: Request,
    agent: Agent,
    who: Who,
    rank: str = Query("all", pattern="^(all|[0-9]{1,6})$"),
    tail: int | None = Query(None, ge=0, le=1 << 40),
    attempt: int | None = Query(None, ge=1, le=1_000_000),
    follow: bool = False,
    form: Literal["raw", "terminal", "json"] = "raw",
) -> StreamingResponse:
    """Show the logs of a job's ranks, as `ugro logs` does; with `follow` until the job has ended."""
    paths = JobPaths(job)

    def ranks() -> list[int]:
        known = [known.rank for known in agent.store.ranks(job, kept)]
        return logs.choose_ranks(paths, rank, known, attempt=kept, over=over)

    over = not (await run_in_threadpool(agent.store.job, job)).active
    kept = await run_in_threadpool(logs.kept_attempt, agent.store, job, attempt)
    if follow and not over and kept is None:
        follower, standing = logs.Follower(paths, ranks, form, tail), Standing(request, who)
        content = _followed(follower, _end_of(agent, job), standing, request.app.state.closing)
        return StreamingResponse(content, media_type="text/plain; charset=utf-8")
    chosen = await run_in_threadpool(ranks)
    pieces = logs.pieces(paths, chosen, form, tail, kept)
    return Download(pieces, request, who, media_type="text/plain; charset=utf-8")


async def _followed(
    follower: logs.Follower, is_over: Callable[[], bool], standing: Standing, closing: asyncio.Event
) -> AsyncIterator[bytes]:
    while True:
        over = await run_in_threadpool(is_over)
        try:
            async for piece in iterate_in_threadpool(follower.poll(last=over)):
                yield piece
                if not await standing.lasts():
                    return
        except NotFoundError:
            return  # a rank that never came: the answer has begun, so its end is all that can be told
        if over or closing.is_set() or not await standing.lasts():
            return
        await asyncio.sleep(_POLL_S)


def _end_of(agent: AgentView, job: str) -> Callable[[], bool]:
    """Return a function that tells whether the job has ended; it asks the store at most twice a second."""
    asked, over = float("-inf"), False

    def is_over() -> bool:
        nonlocal asked, over
        if not over and time.monotonic() - asked >= 0.5:
            asked = time.monotonic()
            over = not agent.store.job(job).active
        return over

    return is_over


@router.get("/metrics", responses={200: {"content": {"text/event-stream": {}}}}, response_model=None)
async def get_metrics(
    job: str, request: Request, agent: Agent, who: Who, follow: bool = True, after: int = Query(0, ge=0, le=1 << 60)
) -> StreamingResponse:
    """Stream the lines of `metrics.jsonl`; the id of each is where the next begins, to go on from (`Last-Event-ID`)."""
    await run_in_threadpool(agent.store.job, job)
    is_over = _end_of(agent, job) if follow else lambda: True
    at, standing = sse.place(request, after), Standing(request, who)
    return sse.stream(_metrics(JobPaths(job), at, is_over, standing, request.app.state.closing))


async def _metrics(
    paths: JobPaths, offset: int, is_over: Callable[[], bool], standing: Standing, closing: asyncio.Event
) -> AsyncIterator[bytes]:
    heard = time.monotonic()
    while True:
        over = await run_in_threadpool(is_over)
        while True:
            offset, lines = await run_in_threadpool(_lines_from, paths, offset)
            for at, line in lines:
                yield sse.message(line, at, "metrics")
                heard = time.monotonic()
            if not await standing.lasts():
                return
            if not lines:
                break
        if over:
            yield sse.message({}, offset, "end")
            return
        if closing.is_set():
            return
        if time.monotonic() - heard > sse.KEEP_ALIVE_S:
            yield sse.KEEP_ALIVE
            heard = time.monotonic()
        await asyncio.sleep(_POLL_S)


def _lines_from(paths: JobPaths, offset: int) -> tuple[int, list[tuple[int, object]]]:
    """Return the whole lines that begin at `offset`, each with where the next begins, and where to go on."""
    try:
        descriptor = open_beneath(paths.root, paths.metrics.name)
    except NotFoundError:
        return offset, []
    with os.fdopen(descriptor, "rb") as file:
        if offset > os.fstat(file.fileno()).st_size:
            offset = 0  # written anew
        file.seek(offset)
        block = file.read(_BLOCK)
    found: list[tuple[int, object]] = []
    for line in block.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        offset += len(line)
        try:
            found.append((offset, json.loads(line)))
        except ValueError:
            continue  # damaged: the next line begins where it should all the same
    return offset, found
