"""The shapes of what the API takes and gives, for its OpenAPI description. Answers may have more keys than named."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Answer(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Error(_Answer):
    """What was tried, what came back, what to do next, and the exit code `ugro` has for it (docs/exit-codes.md)."""

    what: str
    came_back: str
    next_step: str
    exit_code: int


class Problem(_Answer):
    """The body of every answer that is an error."""

    error: Error


class Done(_Answer):
    """What became of a request for a change: the job as it is now, and whether anything was changed."""

    job: str
    status: str
    changed: bool


class JobLine(_Answer):
    """A job in a list, as `ugro ps --json` shows it."""

    job: str
    status: str
    reason: str
    nodes: list[str]
    gpus: list[str]
    ranks: int
    user: str
    model: str | None
    created_at: str
    age_s: float
    duration_s: float | None


class JobState(_Answer):
    """A job with its ranks, newest metrics and events, as `ugro status --json` shows it."""

    job_id: str
    status: str
    reason: str
    exit_code: int | None
    user: str
    ranks: list[dict[str, Any]]
    events: list[dict[str, Any]]


class Results(_Answer):
    """What a job achieved, as `ugro results --json` shows it, and its loss curve as pairs of step and loss."""

    results: dict[str, Any]
    curve: list[tuple[int, float]]


class File(_Answer):
    """A file of a job in the central store; `path` is relative to the job's folder."""

    path: str
    size: int


class Upload(_Answer):
    """Files that were taken in: give `upload` with the job that is to have them, within an hour."""

    upload: str
    parts: list[str]


class Submission(_Asked):
    """A job to launch. `request` has the keys of its `config.json`; who submits it is never one of them."""

    request: dict[str, Any]
    upload: str | None = Field(None, description="what POST /v1/uploads gave for the job's files")
    secrets: dict[str, str] = Field(default_factory=dict, description="values of the names in `secret_env`")


class Again(_Asked):
    """A job once more; `name` is for a rerun. `secrets` has a value for each of the job's secret variables.

    `time_limit_s` is for a job that is resumed: how long it may run from here on.
    """

    name: str | None = None
    secrets: dict[str, str] = Field(default_factory=dict)
    time_limit_s: float | None = Field(None, gt=0, le=366 * 86400, allow_inf_nan=False)


class Stop(_Asked):
    """How to stop: by force is SIGKILL at once."""

    force: bool = False


class Priority(_Asked):
    """A priority, 0 to 100."""

    priority: int = Field(ge=0, le=100)


class Move(_Asked):
    """Where in the queue: `first`, `last`, or before another job."""

    to: str | None = Field(None, pattern="^(first|last)$")
    before: str | None = None


class Drill(_Asked):
    """What to break of a running job; a rank or node that is not named is the last one. `docs/recovery.md` has more."""

    action: Literal["kill-rank", "kill-node", "pause-node"]
    rank: int | None = Field(None, ge=0)
    node: str | None = None
    seconds: float = Field(10.0, ge=0.1, le=600, description="length of a pause")
    power: bool = Field(False, description="with kill-node: reboot the machine; admins only")
    timeout_s: float = Field(300.0, ge=1, le=3600)
    yes: bool = Field(False, description="also a job of somebody else, one without a retry left, or a reboot")


class Drilled(_Answer):
    """What a drill measured, and lines about it for people."""

    result: dict[str, Any]
    lines: list[str]


class Drain(_Asked):
    """Why a node takes no new jobs."""

    reason: str = Field("", max_length=500)


class Quotas(_Asked):
    """Role and quotas; what is left out stays as it is, null takes a limit away."""

    role: str | None = None
    max_gpus: int | None = None
    max_queued: int | None = None
    gpu_hours_week: float | None = None
    max_priority: int | None = Field(None, ge=0, le=100)


class Account(_Answer):
    """A user or a group with its role and quotas; null means no limit."""

    kind: str
    name: str
    role: str
    max_gpus: int | None
    max_queued: int | None
    gpu_hours_week: float | None
    max_priority: int | None


class Event(_Answer):
    """Something that happened; `id` grows, so that reading can go on after it."""

    id: int
    at: str
    kind: str
    severity: str
    text: str
    job: str | None
    node: str | None
    rank: int | None


class Asked(_Answer):
    """A line of the audit trail."""

    at: str
    user: str
    uid: int | None
    verb: str
    target: str
    outcome: str
