"""From the facts of an attempt to the one thing that went wrong first. Pure: facts in, an explanation out."""

from __future__ import annotations

import re
import signal as signals
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ugro_py.explain.causes import Explanation, Finding, next_step
from ugro_py.explain.facts import Facts, NodeFacts, RankFacts
from ugro_py.explain.rank_causes import of_rank
from ugro_py.explain.signs import last_enqueued, sign_of
from ugro_py.explain.tracebacks import Line, last_raised, plain

# What the controller says of an attempt that it ended itself, and what that means.
_REASONS: tuple[tuple[str, str], ...] = (
    ("time_limit", r"time limit|--time-limit"),
    ("preempted", r"preempt|made room for"),
    ("gpu_lost", r"^GPU \S+ .{0,60}(?:was lost|does not answer)"),
    ("frozen", r"frozen|stopped by a signal|stands? still"),
    ("stalled", r"no rank (?:wrote|made)|no progress|stall"),
)
# Events of which a line is always told.
_NOTED = ("not_retried", "log_limit", "logs_paused", "logs_resumed")
_NODE_GONE = re.compile(r"^node (\S+) was lost: (.*)")
_STOPPED_UNASKED = re.compile(r"the ranks on (\S+) were stopped: (.*)")
_GPU_EVENT = re.compile(r"\bXid\b|fallen off the bus|GPU .{0,60}(?:gone|lost|missing)", re.IGNORECASE)


def explain(facts: Facts) -> Explanation:
    """Return why a job's attempt failed, or what is to say of one that has not failed."""
    from ugro_py.explain.present import of_present

    present = of_present(facts)
    if present is not None:
        return _explanation(facts, present, [], [])
    found = [of_rank(rank, facts.nodes[rank.node]) for rank in _failed(facts.ranks.values())]
    findings = sorted([*found, *_of_nodes(facts, found)], key=lambda f: (f.consequence, f.at is None, f.at or 0.0))
    first = _of_reason(facts, findings) or (findings[0] if findings else None)
    if first is None or first.consequence:
        first = _behind(facts, first) or first or _unknown(facts)
    if first.cause == "collective_timeout":
        first = _with_absent(facts, first, findings)
    first, notes = _with_gpu(facts, first)
    return _explanation(facts, first, findings, notes)


def _failed(ranks: Iterable[RankFacts]) -> list[RankFacts]:
    """Return the ranks that failed by themselves: after a stop a rank ends because it was told to."""
    return [
        rank
        for rank in ranks
        if not rank.told and rank.ended_at is not None and (rank.exit_code or rank.exit_code is None)
    ]


def _of_nodes(facts: Facts, ranks: Sequence[Finding]) -> list[Finding]:
    """Return what went wrong with nodes as a whole."""
    found = []
    for event in facts.events:
        if event.kind == "node_lost" and event.node:
            at = event.at.timestamp()
            why = event.text.partition(": ")[2] or event.text
            line = Line("events", 0, f"{event.at:%H:%M:%S}Z {event.kind}: {event.text}")
            if "supervisor is gone" in why:
                text = (
                    f"the supervisor on {event.node} ended without a word: it was killed, or the machine was rebooted"
                )
                found.append(Finding("supervisor_killed", text, None, event.node, at, evidence=(line,)))
            else:
                text = f"node {event.node} was lost: {why}"
                # It is given up seconds after it fell silent: what failed in between may follow from it.
                found.append(Finding("node_lost", text, None, event.node, at - 6.0, evidence=(line,)))
    has = {finding.node for finding in [*ranks, *found]}
    reason = _reason(facts)
    unasked = _STOPPED_UNASKED.search(reason)
    if unasked:
        node, why = unasked[1], unasked[2]
        evidence = (Line("events", 0, f"{node}: stopping: {why}"),)
        if "no other node answered" in why:
            found.append(
                Finding("node_cut_off", f"{node} was cut off from the others: {why}", None, node, evidence=evidence)
            )
        elif why.startswith("signal"):
            text = f"the supervisor on {node} was told to end ({why}): a reboot, `systemctl stop` or `kill`"
            found.append(Finding("supervisor_killed", text, None, node, evidence=evidence))
    for node in facts.nodes.values():
        failed = any(code for code in node.torchrun_codes)
        if failed and node.node not in has and node.stop_reason is None:
            found.append(_of_torchrun(node))
    return found


def _of_torchrun(node: NodeFacts) -> Finding:
    """torchrun itself failed, before or without a rank that says why."""
    raised = last_raised(node.torchrun)
    recent = node.torchrun[-60:]
    line = raised.line if raised else next((line for line in reversed(recent) if line.text.strip()), None)
    said = next(((sign, one) for one in reversed(recent) if (sign := sign_of(plain(one.text)))), None)
    if said is not None:
        sign, line = said
        text = f"torchrun on {node.node} failed: {plain(line.text).strip()[:200]}"
        return Finding(sign.cause, text, None, node.node, consequence=sign.consequence, evidence=(line,))
    signal = -min(node.torchrun_codes, default=0)
    if signal in set(signals.Signals):
        text = f"torchrun on {node.node} was killed by {signals.Signals(signal).name}, and its ranks with it"
        return Finding("killed", text, None, node.node, evidence=(line,) if line else ())
    codes = ", ".join(str(code) for code in node.torchrun_codes if code)
    text = f"torchrun on {node.node} ended with exit code {codes}" + (f": {raised.text[:200]}" if raised else "")
    return Finding("torchrun", text, None, node.node, evidence=(line,) if line else ())


def _reason(facts: Facts) -> str:
    return (facts.attempt.reason if facts.attempt else "") or facts.job.reason


def _of_reason(facts: Facts, findings: Sequence[Finding]) -> Finding | None:
    """Return what the controller itself gave as the reason, where that is the whole story."""
    reason = _reason(facts)
    evidence = (Line("events", 0, reason),)
    for cause, pattern in _REASONS:
        if re.search(pattern, reason, re.IGNORECASE):
            rank = re.search(r"\brank (\d+)", reason)
            number = int(rank[1]) if rank else _still(facts)
            node = facts.ranks[number].node if number is not None and number in facts.ranks else None
            return Finding(cause, reason, number, node, evidence=evidence)
    nothing_ran = not any(rank.started for rank in facts.ranks.values())
    if not findings and nothing_ran and facts.job.status == "failed":
        sign = sign_of(reason)
        cause = sign.cause if sign and not sign.consequence else "not_started"
        node = next((name for name in facts.nodes if re.search(rf"\b{re.escape(name)}\b", reason)), None)
        return Finding(cause, f"it did not start: {reason}", None, node, evidence=evidence)
    if re.search(r"state database|central store|controller", reason) and not findings:
        sign = sign_of(reason)
        return Finding(sign.cause if sign else "unknown", reason, None, "the controller", evidence=evidence)
    return None


def _still(facts: Facts) -> int | None:
    """Return the rank that stood still while the others went on or waited, if there is just one."""
    frozen = [rank.rank for rank in facts.ranks.values() if any(e["kind"] == "rank_frozen" for e in rank.odd)]
    return frozen[0] if len(frozen) == 1 else None


def _behind(facts: Facts, consequence: Finding | None) -> Finding | None:
    """Return what is behind failures that all are consequences: a node that went, or a rank that ended too early."""
    gone = _NODE_GONE.match(_reason(facts))
    if gone:
        return Finding("node_lost", _reason(facts), None, gone[1], evidence=(Line("events", 0, _reason(facts)),))
    if consequence is None:
        return None
    early = [
        rank
        for rank in facts.ranks.values()
        if rank.exit_code == 0 and not rank.told and (rank.ended_at or 0) <= (consequence.at or 0) + 0.5
    ]
    if early:
        first = min(early, key=lambda rank: rank.ended_at or 0)
        text = f"rank {first.rank} on {first.node} ended well while others still waited for it: {consequence.title}"
        return Finding("uneven_end", text, first.rank, first.node, first.ended_at, evidence=consequence.evidence)
    return None


def _unknown(facts: Facts) -> Finding:
    reason = _reason(facts) or "nobody said why"
    return Finding("unknown", reason, evidence=(Line("events", 0, reason),))


def _with_absent(facts: Facts, first: Finding, findings: Sequence[Finding]) -> Finding:
    """Name the ranks that never came to the collective that the others waited in."""
    waited = {finding.rank for finding in findings if finding.cause in ("collective_timeout", "peer_lost")}
    reached = dict(pair for rank in facts.ranks.values() for line in rank.log if (pair := last_enqueued(line.text)))
    absent = [rank for rank, at in reached.items() if at < max(reached.values())]
    if not absent:
        still = [rank.rank for rank in facts.ranks.values() if rank.odd and rank.rank not in waited]
        others = [rank.rank for rank in facts.ranks.values() if rank.rank not in waited and not _timed_out(rank)]
        absent = still if len(still) == 1 else others
    if not absent or len(absent) == len(facts.ranks):
        return first
    names = ", ".join(f"rank {rank} on {facts.ranks[rank].node}" for rank in sorted(absent) if rank in facts.ranks)
    text = f"{first.title}: {names} never came to it"
    evidence = list(first.evidence)
    for rank in sorted(absent)[:2]:
        evidence += [line for line in facts.ranks[rank].log[-3:] if line.text.strip()] if rank in facts.ranks else []
    return replace(first, title=text, absent=tuple(sorted(absent)), evidence=tuple(evidence))


def _timed_out(rank: RankFacts) -> bool:
    return any((sign := sign_of(line.text)) and sign.cause == "collective_timeout" for line in rank.log[-60:])


def _with_gpu(facts: Facts, first: Finding) -> tuple[Finding, list[str]]:
    """Add what health saw on the nodes in that time; a GPU that went is the cause of what CUDA, or a crash, told."""
    notes = []
    for event in facts.around:
        if event.kind in ("node_health", "gpu_missing", "gpu_lost", "node_drain") and event.severity != "info":
            text = f"{event.at:%H:%M:%S}Z {event.node}: {event.text}"
            notes.append(text)
            same = event.node == first.node
            if (
                same
                and _GPU_EVENT.search(event.text)
                and first.cause in ("cuda_error", "crash", "gpu_lost", "exit_code")
            ):
                line = Line("events", 0, text)
                title = first.title if first.cause == "gpu_lost" else f"{event.node} lost a GPU; {first.title}"
                first = replace(first, cause="gpu_lost", title=title, evidence=(*first.evidence, line))
    return first, notes


def _explanation(facts: Facts, first: Finding, findings: Sequence[Finding], notes: Sequence[str]) -> Explanation:
    others = [f.title for f in findings if f.title != first.title and (f.rank, f.node) != (first.rank, first.node)]
    told = sorted(rank.rank for rank in facts.ranks.values() if rank.told and rank.rank not in first.absent)
    if told and first.cause not in ("stopped", "completed", "running"):
        others.append(f"rank{'s' if len(told) > 1 else ''} {', '.join(map(str, told))} stopped with the gang")
    notes = [*notes, *(event.text for event in facts.events if event.kind in _NOTED)]
    drills = [event for event in facts.events if event.kind == "drill"]
    drill = f"a drill did this: {drills[-1].text}" if drills and first.cause not in ("running", "completed") else ""
    return Explanation(
        facts.job.name, facts.job.status, facts.attempt.number if facts.attempt else None, facts.newest,
        first.cause, first.title, first.rank, first.node, first.evidence,
        next_step(first.cause, facts.job.name, first.node), tuple(others), tuple(notes), drill,
    )  # fmt: skip
