"""A job's metrics and the readings of its nodes, thinned so that they can be drawn."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Query

from ugro_py import series
from ugro_py.api.auth import Agent, Who

router = APIRouter(prefix="/v1/jobs/{job}", tags=["series"])


@router.get("/series")
def get_series(
    job: str,
    agent: Agent,
    who: Who,
    column: str = Query("training_loss", max_length=100),
    by: Literal["step", "time"] = "step",
    ranks: str = Query("mean", pattern=r"^(mean|each|[0-9]{1,6}(,[0-9]{1,6}){0,63})$"),
    points: int = Query(1000, ge=2, le=20_000),
    smooth: float = Query(0.0, ge=0.0, lt=1.0),
) -> dict[str, Any]:
    """Show one number over steps or time (Unix seconds): its mean over the ranks, that of each, or of some (`0,3`)."""
    agent.store.job(job)
    wanted = ranks if ranks in ("mean", "each") else [int(rank) for rank in ranks.split(",")]
    return series.open_job(job).chart(column, by=by, ranks=wanted, points=points, smooth=smooth).to_json()


@router.get("/samples")
def get_samples(job: str, agent: Agent, who: Who, points: int = Query(600, ge=2, le=20_000)) -> list[dict[str, Any]]:
    """Show what the nodes measured once a second while the job ran: a line per node, GPU and reading."""
    agent.store.job(job)
    return series.open_job(job).samples(points)
