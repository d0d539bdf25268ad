"""The agent itself, and its figures for Prometheus."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from ugro_py import __version__, paths
from ugro_py.api import prom
from ugro_py.api.auth import Agent, Who

router = APIRouter(tags=["agent"])


@router.get("/v1/agent")
def show_agent(agent: Agent, who: Who) -> dict[str, Any]:
    """Show which agent this is: version, inventory, central store, and how long the rounds of its loops take."""
    return {
        "version": __version__,
        "pid": os.getpid(),
        "uid": os.geteuid(),
        "cluster": agent.cluster.name,
        "inventory": str(agent.cluster.source),
        "store": str(paths.data_dir()),
        "loops": {name: asdict(timing) for name, timing in agent.timings().items()},
    }


@router.get("/metrics", responses={200: {"content": {"text/plain": {}}}}, response_model=None)
def metrics(agent: Agent, who: Who) -> Response:
    """Give the figures in Prometheus' text format."""
    return Response(prom.exposition(agent), media_type=prom.CONTENT_TYPE)
