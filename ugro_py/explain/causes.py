"""The causes a job can fail for: what each is called, and what to do about it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ugro_py.explain.tracebacks import Line

# cause -> next step; {job}, {node} and {log} are filled in.
NEXT_STEPS: dict[str, str] = {
    "exception": "correct the line named above and launch again; `ugro logs {job}` shows all that was printed",
    "exit_code": "see `ugro logs {job}`: the script ended itself without saying why",
    "refused_input": "correct the arguments of the script and launch again",
    "gpu_oom": "use a smaller --batch-size with more --gradient-accumulation, or GPUs with more memory",
    "host_oom": "use less memory on {node} (fewer data loader workers, a smaller batch), or a node with more",
    "shared_memory": "enlarge /dev/shm on {node}, or use fewer data loader workers",
    "collective_timeout": "see what the rank that never came was doing: `ugro logs {job}`; all ranks must make the same"
    " collective calls in the same order",
    "uneven_end": "let every rank make the same number of steps (drop_last, or torch's Join)",
    "peer_lost": "look for what went first (`ugro events --job {job}`), and at the network (`ugro check`)",
    "killed": "see who sends signals on {node}; for SIGKILL also its kernel log for the OOM killer",
    "crash": "the fault is in native code: try the newest torch and driver; `ugro logs {job}` may hold a stack",
    "gpu_lost": "keep jobs away with `ugro nodes drain {node}`, look at its cooling and power, then reboot it",
    "cuda_error": "run once with --env CUDA_LAUNCH_BLOCKING=1: the traceback then names the line that did it",
    "node_lost": "see that {node} is on and reachable (`ugro check {node}`), then go on from the newest checkpoint",
    "node_cut_off": "look at the network of {node}: it saw no other node of the gang any more",
    "supervisor_killed": "see what ended the supervisor on {node}: a reboot, `kill`, or the OOM killer",
    "disk_full": "make room on {node} (`ugro health` shows its disks) and launch again from the newest checkpoint",
    "port_busy": "launch again: another port is leased; if that is always so, set ugro_master_port in the inventory",
    "version": "make the nodes alike: `ugro check` shows what differs, `ugro bootstrap` installs it",
    "frozen": "see the stack of the rank in the attempt's folder; who stopped it can let it go on with SIGCONT",
    "stalled": "see what the ranks wait for; raise --stall-timeout if a step may take so long",
    "stopped": "nothing is wrong; launch it again to go on",
    "time_limit": "give it a longer --time-limit; it goes on from its newest checkpoint",
    "preempted": "nothing to do: it goes on from its checkpoint when GPUs are free",
    "not_started": "correct what is named above and launch again; nothing runs on the nodes",
    "torchrun": "see torchrun's own log in the attempt's folder",
    "unknown": "see `ugro logs {job}` and `ugro events --job {job}`",
    "completed": "see `ugro results {job}`",
    "waiting": "see `ugro queue` for the order; `ugro ps` shows who holds the GPUs",
    "held": "release it when it may run",
    "running": "nothing to do",
    "slow": "see `ugro logs {job}`; if it never goes on, stop it",
}


@dataclass(frozen=True)
class Finding:
    """Why one rank or node failed, or what is to say of a job; the best one becomes the explanation.

    Attributes:
        cause: a key of `NEXT_STEPS`.
        title: what happened, one sentence without a full stop.
        consequence: it mostly follows from a failure elsewhere.
        at: seconds since 1970, None where unknown.
        absent: ranks that the others waited for in vain.
    """

    cause: str
    title: str
    rank: int | None = None
    node: str | None = None
    at: float | None = None
    consequence: bool = False
    evidence: tuple[Line, ...] = ()
    absent: tuple[int, ...] = ()


@dataclass(frozen=True)
class Explanation:
    """The answer to why: the first failure, what shows it, what followed from it, and what to do."""

    job: str
    status: str
    attempt: int | None
    attempts: int
    cause: str
    title: str
    rank: int | None
    node: str | None
    evidence: Sequence[Line]
    next_step: str
    consequences: Sequence[str] = ()
    notes: Sequence[str] = field(default=())
    drill: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "job_id": self.job,
            "status": self.status,
            "attempt": self.attempt,
            "attempts": self.attempts,
            "cause": self.cause,
            "title": self.title,
            "rank": self.rank,
            "node": self.node,
            "drill": self.drill or None,
            "evidence": [{"file": e.file, "line": e.number or None, "text": e.text} for e in self.evidence],
            "consequences": list(self.consequences),
            "notes": list(self.notes),
            "next_step": self.next_step,
        }


def next_step(cause: str, job: str, node: str | None) -> str:
    """Return what a person can do about a cause."""
    return NEXT_STEPS[cause].replace("{job}", job).replace("{node}", node or "the node")
