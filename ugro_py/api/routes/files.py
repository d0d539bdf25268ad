"""Files of a job in the central store: checkpoints, logs, metrics, whatever was collected."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request

from ugro_py.api.auth import Agent, Caller, Who
from ugro_py.api.beneath import files_beneath, open_beneath
from ugro_py.api.models import File
from ugro_py.api.standing import Download
from ugro_py.paths import JobPaths

router = APIRouter(prefix="/v1/jobs/{job}/files", tags=["files"])

_BLOCK = 1 << 18


def _shown(paths: JobPaths, name: str) -> bool:
    """Say whether the file may be read by all: what a job made, not what a user submitted.

    A name that is no text (some other encoding) can be in no answer, and in no request either.
    """
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        return False
    folders = (paths.checkpoints, paths.tensorboard, paths.logs)
    return name.split("/")[0] in {folder.name for folder in folders} or name == paths.metrics.name


@router.get("", responses={200: {"model": list[File]}}, response_model=None)
def list_files(job: str, agent: Agent, who: Who) -> list[dict[str, Any]]:
    """List what the central store has of a job. Links are left out."""
    paths = JobPaths(agent.store.job(job).name)
    return [{"path": name, "size": size} for name, size in files_beneath(paths.root) if _shown(paths, name)]


@router.get("/{name:path}", responses={200: {"content": {"application/octet-stream": {}}}}, response_model=None)
def get_file(job: str, name: str, request: Request, agent: Agent, who: Who) -> Download:
    """Get one file, byte for byte. No link is followed."""
    paths = JobPaths(agent.store.job(job).name)
    return send(paths, name if _shown(paths, name) else "", request, who)


def send(paths: JobPaths, name: str, request: Request, who: Caller) -> Download:
    """Return a file of a job's folder as an answer to a request, to be saved.

    Raises:
        NotFoundError: there is no such file, or it is a link or lies behind one.
    """
    descriptor = open_beneath(paths.root, name)
    size = os.fstat(descriptor).st_size
    headers = {"content-length": str(size), "x-content-type-options": "nosniff", "content-disposition": "attachment"}
    return Download(_blocks(descriptor, size), request, who, media_type="application/octet-stream", headers=headers)


def _blocks(descriptor: int, size: int) -> Iterator[bytes]:
    """Yield `size` bytes: a file that grows meanwhile is sent as it was when it was asked for."""
    with os.fdopen(descriptor, "rb") as file:
        while size > 0 and (block := file.read(min(_BLOCK, size))):
            size -= len(block)
            yield block
