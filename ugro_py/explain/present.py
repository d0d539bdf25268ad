"""What is to say of a job that has not failed: it waits, runs, was stopped, or completed. Pure."""

from __future__ import annotations

from datetime import datetime

from ugro_py.display import duration
from ugro_py.explain.causes import Finding
from ugro_py.explain.facts import Facts
from ugro_py.explain.tracebacks import Line

# A running job whose ranks told nothing for so much longer than a step takes, and at least for so long, is slow.
_SLOW_S = 60.0


def of_present(facts: Facts) -> Finding | None:
    """Return what a job does that has not failed; None for an attempt that did."""
    job, attempt = facts.job, facts.attempt
    if (
        attempt is not None
        and attempt.status == "failed"
        and (job.status != "pending" or attempt.number < facts.newest or facts.named)
    ):
        return None if not _stopped_by_person(facts) else _stopped(facts)
    if (
        attempt is not None
        and (attempt.number < facts.newest or facts.named)
        and attempt.status in ("preempted", "requeued")
    ):
        return None
    if job.status == "pending":
        return _waiting(facts)
    if job.status == "stopped" or (attempt is not None and attempt.status == "stopped"):
        return None if _by_itself(facts) else _stopped(facts)
    if job.status == "completed":
        return Finding("completed", "it completed; nothing went wrong")
    return _running(facts) if job.active else None


def _by_itself(facts: Facts) -> bool:
    """Return whether UGRO stopped it, for a reason of its own."""
    reason = (facts.attempt.reason if facts.attempt else "") or facts.job.reason
    return any(word in reason.lower() for word in ("time limit", "preempt"))


def _stopped_by_person(facts: Facts) -> bool:
    return (
        facts.job.status == "stopped"
        and facts.job.stop_requested
        and facts.newest == (facts.attempt.number if facts.attempt else 0)
    )


def _stopped(facts: Facts) -> Finding:
    asked = [row for row in facts.asked if row.verb in ("stop", "cancel", "queue cancel")]
    events = [event for event in facts.events if event.kind == "stop_requested"]
    by, at = "somebody who may do that", None
    if asked:
        by, at = asked[-1].user, asked[-1].at
    elif events:
        at = events[-1].at
        by = str((events[-1].data or {}).get("by") or f"{facts.job.user} or somebody else who may")
    when = f" at {at:%Y-%m-%d %H:%M:%S} UTC" if isinstance(at, datetime) else ""
    how = " by force" if facts.job.stop_force else ""
    evidence = tuple(Line("events", 0, f"{event.at:%H:%M:%S}Z {event.kind}: {event.text}") for event in events)
    return Finding("stopped", f"it was stopped{how} on request of {by}{when}", evidence=evidence)


def _waiting(facts: Facts) -> Finding:
    job = facts.job
    waited = duration((facts.now - job.created_at).total_seconds())
    if job.held:
        return Finding("held", f"it is held{f' by {job.held_by}' if job.held_by else ''}; it has waited for {waited}")
    why = job.reason or (f"for {', '.join(job.after)} to end" if job.after else "for its turn")
    last = facts.attempt
    notes = (Line("events", 0, f"attempt {last.number}: {last.reason}"),) if last and last.reason else ()
    return Finding("waiting", f"it has waited for {waited}: {why}", evidence=notes)


def _running(facts: Facts) -> Finding:
    """A job at work: whether it makes progress, and who stands still."""
    still = [
        (rank, event)
        for rank in facts.ranks.values()
        for event in rank.odd[-1:]
        if event.get("kind") in ("rank_frozen", "rank_idle", "gpu_lost")
    ]
    if still:
        rank, event = still[0]
        what = {"rank_frozen": "was stopped by a signal", "gpu_lost": "lost its GPU"}.get(
            str(event["kind"]), "neither computes nor writes"
        )
        since = f" since {event['seconds']:.0f} s before it was noticed" if event.get("seconds") else ""
        cause = {"rank_frozen": "frozen", "gpu_lost": "gpu_lost"}.get(str(event["kind"]), "slow")
        return Finding(cause, f"rank {rank.rank} on {rank.node} {what}{since}", rank.rank, rank.node)
    newest = max((rank.metric_at or 0.0 for rank in facts.ranks.values()), default=0.0)
    silent = facts.now.timestamp() - newest
    steps = [rank.step for rank in facts.ranks.values() if rank.step is not None]
    if newest and silent > _SLOW_S:
        behind = min((r for r in facts.ranks.values() if r.step is not None), key=lambda r: r.step or 0)
        text = f"it runs, but no rank told of a step for {duration(silent)}; the last was step {max(steps)}"
        return Finding("slow", text, behind.rank, behind.node)
    at = f", at step {max(steps)}" if steps else ""
    return Finding("running", f"it is {facts.job.status}{at}; nothing is wrong")
