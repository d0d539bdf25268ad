"""Why one rank ended, from its exit code, its log and what its node told. Pure: facts in, a finding out."""

from __future__ import annotations

import re
import signal as signals
from collections.abc import Sequence

from ugro_py.explain.causes import Finding
from ugro_py.explain.facts import NodeFacts, RankFacts
from ugro_py.explain.signs import Sign, last_enqueued, sign_of
from ugro_py.explain.tracebacks import Line, Raised, last_raised, plain

_CRASHES = frozenset({"SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT", "SIGSYS"})
# A failure's words are among the last lines; what was printed long before it was dealt with.
_LAST_LINES = 60
# So full was a node's memory just before a rank was killed that the kernel's OOM killer is the likeliest.
_FULL = 0.92


def of_rank(rank: RankFacts, node: NodeFacts) -> Finding:
    """Return why a rank failed."""
    raised = last_raised(rank.log)
    recent = list(rank.log[-_LAST_LINES:])
    sign, line = _sign(raised, recent)
    if rank.signal is not None and not (sign and sign.cause in ("gpu_lost", "collective_timeout", "peer_lost")):
        return _signalled(rank, node, raised, recent)
    lost = next((event for event in rank.odd if event.get("kind") == "gpu_lost"), None)
    if lost is not None and (sign is None or sign.cause in ("cuda_error", "gpu_lost")):
        text = f"rank {rank.rank} on {rank.node} lost its GPU {lost.get('uuid', '')}".rstrip()
        return _finding("gpu_lost", text, rank, _evidence(raised, line))
    if sign is not None and not (sign.cause == "version" and raised and not _is_import(raised)):
        return _signed(rank, sign, raised, line, recent)
    if raised is not None and raised.kind not in ("SystemExit", "KeyboardInterrupt"):
        where = f" at {raised.frame}" if raised.frame else ""
        text = f"rank {rank.rank} on {rank.node} raised {raised.text[:300]}{where}"
        return _finding("exception", text, rank, _evidence(raised, None))
    return _exited(rank, recent)


def _is_import(raised: Raised) -> bool:
    return any(one.kind in ("ImportError", "ModuleNotFoundError") for one in (raised, *raised.causes)) or bool(
        re.search(r"undefined symbol|shared object|driver|kernel image|compiled", raised.message, re.IGNORECASE)
    )


def _sign(raised: Raised | None, recent: Sequence[Line]) -> tuple[Sign | None, Line | None]:
    """Return what the failure's words are a sign of, and the line that says so."""
    full = next((line for line in recent if line.text.startswith("[ugro] the file system of")), None)
    if full is not None:
        return sign_of(full.text), full
    # NCCL's watchdog ends the process from a thread: no exception of Python's tells of it.
    for line in recent:
        if "Watchdog caught collective operation timeout" in line.text:
            return sign_of(line.text), line
    if raised is not None:
        for one in (raised, *reversed(raised.causes)):
            sign = sign_of(one.text)
            if sign is not None:
                return sign, one.line
        # Training code that gives up in one line of its own after an exception that it printed.
        return None, None
    for line in reversed(recent):
        sign = sign_of(plain(line.text))
        if sign is not None:
            return sign, line
    return None, None


def _signed(rank: RankFacts, sign: Sign, raised: Raised | None, line: Line | None, recent: Sequence[Line]) -> Finding:
    who = f"rank {rank.rank} on {rank.node}"
    said = raised.text if raised else plain(line.text).strip() if line else ""
    where = f" at {raised.frame}" if raised and raised.frame else ""
    words = {
        "gpu_oom": f"{who} ran out of GPU memory{where}",
        "host_oom": f"{who} ran out of memory{where}",
        "shared_memory": f"{who} ran out of shared memory{where}",
        "disk_full": f"{who} met a full disk{where}",
        "port_busy": f"{who} met a port that is in use{where}",
        "version": f"{who} lacks a package, or versions do not fit: {said[:200]}{where}",
        "gpu_lost": f"{who} lost its GPU: {said[:200]}",
        "cuda_error": f"{who} met a CUDA error: {said[:200]}{where}",
        "collective_timeout": f"{who} waited in a collective in vain{where}",
        "peer_lost": f"{who} lost its connection to another rank{where}",
    }
    evidence = _evidence(raised, line) + _tail_evidence(recent, raised, line)
    return _finding(sign.cause, words[sign.cause], rank, evidence, sign.consequence)


def _signalled(rank: RankFacts, node: NodeFacts, raised: Raised | None, recent: Sequence[Line]) -> Finding:
    who = f"rank {rank.rank} on {rank.node}"
    text = f"{who} was killed by {rank.signal}"
    evidence = _evidence(raised, None) or _last(recent)
    oom = next((e for e in (*rank.odd, *node.odd) if e.get("oom") or "oom" in str(e.get("kind", ""))), None)
    if rank.signal == "SIGKILL":
        if oom is not None:
            return _finding(
                "host_oom", f"{who} was killed by the kernel: {rank.node} was out of memory", rank, evidence
            )
        used, total = node.mem_used_gb, node.mem_total_gb
        if used and total and used > _FULL * total:
            text += f"; {used:.1f} of {total:.1f} GB of memory were in use, so most likely by the kernel's OOM killer"
            return _finding("host_oom", text, rank, evidence)
    if _torchrun_went_too(rank, node):
        text += "; its torchrun was killed as well and may have been first"
    if rank.signal == "SIGBUS" or (rank.signal in _CRASHES and raised is None):
        sign = next((s for line in reversed(recent) if (s := sign_of(plain(line.text)))), None)
        if sign is not None and sign.cause != "peer_lost":
            line = next(line for line in reversed(recent) if sign.pattern.search(plain(line.text)))
            return _signed(rank, sign, raised, line, recent)
        return _finding("crash", f"{who} crashed ({rank.signal})", rank, evidence)
    if rank.signal in _CRASHES and raised is not None:
        # What it raised ended it; threads of its libraries may abort it on its way out, or may not.
        sign, where = _sign(raised, recent)
        if sign is not None and (sign.cause != "version" or _is_import(raised)):
            return _signed(rank, sign, raised, where, recent)
        return _finding("exception", f"{who} raised {raised.text[:300]} and aborted", rank, evidence)
    return _finding("killed", text, rank, evidence)


def _torchrun_went_too(rank: RankFacts, node: NodeFacts) -> bool:
    """Return whether torchrun was killed before it could say that the rank was: then the rank went with it."""
    killed = rank.signal == "SIGKILL" and -signals.SIGKILL in node.torchrun_codes
    return killed and not any("exitcode: -9" in line.text for line in node.torchrun)


def _exited(rank: RankFacts, recent: Sequence[Line]) -> Finding:
    who = f"rank {rank.rank} on {rank.node}"
    if rank.exit_code == 2:
        said = next((line for line in reversed(recent) if re.search(r"\berror\b|usage:|No such file", line.text)), None)
        if said is not None:
            text = f"{who} refused what it was given: {plain(said.text).strip()[:200]}"
            return _finding("refused_input", text, rank, (said,))
    code = "an exit code nobody saw" if rank.exit_code is None else f"exit code {rank.exit_code}"
    return _finding("exit_code", f"{who} ended with {code}", rank, _last(recent))


def _finding(cause: str, title: str, rank: RankFacts, evidence: Sequence[Line], consequence: bool = False) -> Finding:
    seen = tuple({(line.file, line.number, line.text): line for line in evidence}.values())
    if not seen and rank.end is not None:
        seen = (rank.end,)
    return Finding(cause, title, rank.rank, rank.node, rank.ended_at, consequence, seen)


def _evidence(raised: Raised | None, line: Line | None) -> tuple[Line, ...]:
    found = []
    if raised is not None:
        found += [one.line for one in raised.causes]
        if raised.code:
            found.append(Line(raised.frame.partition(" in ")[0].rpartition(":")[0], _number(raised.frame), raised.code))
        found.append(raised.line)
    if line is not None:
        found.append(line)
    return tuple(found)


def _number(frame: str) -> int:
    digits = frame.partition(" in ")[0].rpartition(":")[2]
    return int(digits) if digits.isdigit() else 0


def _tail_evidence(recent: Sequence[Line], raised: Raised | None, line: Line | None) -> tuple[Line, ...]:
    """NCCL says with a time-out how far each rank had come."""
    if raised is not None and line is not None and "Watchdog" not in line.text:
        return ()
    return tuple(found for found in recent if last_enqueued(found.text))[:4]


def _last(recent: Sequence[Line], count: int = 3) -> tuple[Line, ...]:
    return tuple([line for line in recent if line.text.strip()][-count:])
