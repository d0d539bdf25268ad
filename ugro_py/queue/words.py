"""What a job waits for, in plain words: the texts that `ugro queue` and `ugro status` show."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ugro_py.display import counted
from ugro_py.queue.filters import Filter
from ugro_py.queue.grid import Grid
from ugro_py.queue.model import Account, Quota, Snapshot
from ugro_py.queue.reserve import Reservation
from ugro_py.scheduler import Request, vram_words

_SHOWN = 4


def asks(request: Request) -> str:
    """Return what a job asks for: "2 GPUs", "4 GPUs on 2 nodes", "every free GPU"."""
    size = vram_words(request)
    size = f" {size}" if size else ""
    if request.gpus is not None:
        on = f" on {counted(request.nodes, 'node')}" if request.nodes is not None else ""
        return f"{counted(request.gpus, 'GPU')}{size}{on}"
    if request.nodes is not None:
        return counted(request.nodes, "node") + (f" with GPUs{size}" if size else "")
    return f"a GPU{size}"


def clock(at: float, now: float) -> str:
    """Return a time of day here, with the date where that is not today's."""
    there, today = time.localtime(at), time.localtime(now)
    return time.strftime("%H:%M" if there[:3] == today[:3] else "%Y-%m-%d %H:%M", there)


def behind(reservation: Reservation) -> str:
    """Return why a job that is not the first in line waits."""
    return f"behind job {reservation.job.job} (priority {reservation.job.priority})"


def kept(reservation: Reservation, now: float) -> str:
    """Return why a job waits although it would fit on what is free."""
    text = f"{behind(reservation)}, which the free GPUs are kept for"
    minutes = int((reservation.starts - now) // 60)
    return f"{text}; with a time limit below {minutes} min it could start before" if minutes >= 2 else text


def gpu_quota(account: Account, most: int, used: int, asked: int) -> str:
    """Return that the quota of GPUs at once is used up, or would be passed by a job that asks for `asked`."""
    if asked > most:
        return f"quota: {_who(account)} may use {counted(most, 'GPU')} at once, the job asks for {asked}"
    return f"quota: {_who(account)} uses {used} of {counted(most, 'GPU')}" + (f", {asked} asked" if used < most else "")


def hours_quota(account: Account, limits: Quota) -> str:
    """Return that the quota of GPU hours is used up."""
    hours = f"{limits.used_hours:.1f} of {limits.gpu_hours_week:g} GPU hours"
    return f"quota: {_who(account)} used {hours} in the last 7 days"


def waits(
    request: Request,
    allowed: Filter,
    grid: Grid,
    snapshot: Snapshot,
    held: Mapping[str, tuple[str, float | None, bool]],
) -> str:
    """Return what a job waits for and who uses it.

    Args:
        request: what the job asks for.
        allowed: the GPUs it may have.
        grid: all GPUs.
        snapshot: why nodes and GPUs are not to be had.
        held: UUID of a GPU -> the job that holds it, when that ends at the latest, whether it is stopping.
    """
    words, left = _in_use(allowed, grid, snapshot, held)
    text = f"waits for {asks(request)}"
    if words:
        text += ": " + ", ".join(words) + (f" and {left} more" if left else "")
    return text


def _in_use(
    allowed: Filter, grid: Grid, snapshot: Snapshot, held: Mapping[str, tuple[str, float | None, bool]]
) -> tuple[list[str], int]:
    """Return the first few reasons why GPUs are not to be had, and of how many more GPUs the reasons are not named."""
    words: list[str] = []
    left = 0
    for number, node in enumerate(grid.nodes):
        bits = allowed.bits >> grid.first[number] & ((1 << len(grid.gpus[number])) - 1)
        if not bits:
            continue
        if len(words) >= _SHOWN:
            left += bits.bit_count()
            if left > 999:
                break
            continue
        if node in snapshot.unschedulable:
            words.append(snapshot.unschedulable[node])
            continue
        by_text: dict[str, list[int]] = {}
        for place, gpu in enumerate(grid.gpus[number]):
            if not bits >> place & 1:
                continue
            if gpu.uuid in held:
                by_text.setdefault(_used_by(*held[gpu.uuid], snapshot.now), []).append(gpu.index)
            elif gpu.uuid in snapshot.unusable:
                by_text.setdefault(snapshot.unusable[gpu.uuid], [])
        for text, indexes in by_text.items():
            words.append(f"{node}:{','.join(map(str, indexes))} {text}" if indexes else text)
    return words, left


def _used_by(job: str, ends_at: float | None, stopping: bool, now: float) -> str:
    if stopping:
        return f"is used by job {job} (stopping)"
    until = f" (until {clock(max(ends_at, now), now)} at the latest)" if ends_at is not None else ""
    return f"is used by job {job}{until}"


def _who(account: Account) -> str:
    kind, name = account
    return name if kind == "user" else f"group {name}"
