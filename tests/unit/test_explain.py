# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What cannot be staged without GPUs, and what belongs to the whole gang: from facts to the cause.

The texts of NCCL, CUDA and the kernel are as people posted them: pytorch issues 16417 and 118369, hiyouga/LlamaFactory
issue 7396, NVIDIA/NVSentinel issue 155.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ugro_py.explain.causes import NEXT_STEPS, Explanation
from ugro_py.explain.classify import explain
from ugro_py.explain.facts import Facts, NodeFacts, RankFacts
from ugro_py.explain.report import lines
from ugro_py.explain.signs import sign_of
from ugro_py.explain.tracebacks import Line, last_raised
from ugro_py.state import JobRow
from ugro_py.state._alerts import AskedRow
from ugro_py.state.rows import AttemptRow, EventRow

NOW = datetime(2026, 1, 20, 12, 0, tzinfo=UTC)
T = NOW.timestamp()
CUDA_OOM = (
    "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 22.00 MiB. GPU 0 has a total capacity of"
    " 23.65 GiB of which 11.06 MiB is free. Including non-PyTorch memory, this process has 23.60 GiB memory in use."
)
XID = "NVRM: Xid (PCI:0000:44:00): 79, GPU has fallen off the bus"
GLOO = "RuntimeError: [/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:41374."


def watchdog(rank: int, enqueued: int) -> list[str]:
    head = f"[rank{rank}]:[E321 02:07:08.408271257 ProcessGroupNCCL.cpp"
    return [
        f"{head}:607] [Rank {rank}] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=1580,"
        " OpType=ALLREDUCE, NumelIn=4, NumelOut=46, Timeout(ms)=600000) ran for 600060 milliseconds before timing out.",
        f"{head}:1664] [PG 1 Rank {rank}] Exception (either an error or timeout) detected by watchdog at work: 1580,"
        f" last enqueued NCCL work: {enqueued}, last completed NCCL work: 1579.",
        "terminate called after throwing an instance of 'c10::DistBackendError'",
    ]


def raised(text: str, rank: int = 0) -> list[str]:
    return [
        f"[rank{rank}]: Traceback (most recent call last):",
        f'[rank{rank}]:   File "/home/ob/.ugro/gpu1/jobs/a/1/code/train.py", line 12, in step',
        f"[rank{rank}]:     loss.backward()",
        f'[rank{rank}]:   File "/opt/venv/lib/python3.11/site-packages/torch/_tensor.py", line 600, in backward',
        f"[rank{rank}]:     torch.autograd.backward(",
        f"[rank{rank}]: {text}",
    ]


def rank(number: int, log: Sequence[str] = (), **values: Any) -> RankFacts:
    texts = tuple(Line(f"logs/rank_{number}.log", at, text) for at, text in enumerate(log, 1))
    given = {"exit_code": 1, "ended_at": T + number, "started": True, **values}
    return RankFacts(number, f"gpu{number}", log=texts, **given)


def told(number: int, log: Sequence[str] = ()) -> RankFacts:
    return rank(number, log, exit_code=-15, signal="SIGTERM", told=True, ended_at=T + 9)


def event(kind: str, text: str, node: str | None = None, severity: str = "error", **data: Any) -> EventRow:
    return EventRow(NOW, kind, severity, text, None, node, None, data or None, 1)


def job(status: str = "failed", reason: str = "", **values: Any) -> JobRow:
    given = {"exit_code": 1, "request": {}, "created_at": NOW, "started_at": NOW, "ended_at": None, **values}
    return JobRow("a", "ob", status, reason, controller=None, stop_requested=False, stop_force=False, **given)


def why(*ranks: RankFacts, reason: str = "", status: str = "failed", nodes: Any = None, **values: Any) -> Explanation:
    attempt = AttemptRow("a", 1, status, reason, "10.0.0.1", 29500, "t", None, None, NOW, None)
    known = {r.node: NodeFacts(r.node) for r in ranks} | (nodes or {})
    facts = Facts(values.pop("job", job(status, reason)), attempt, {r.rank: r for r in ranks}, known, newest=1, now=NOW)
    found = explain(replace(facts, **values))
    assert found.cause in NEXT_STEPS and "{" not in found.next_step
    assert all(text.isprintable() for text in lines(found))
    return found


def test_cuda_out_of_memory() -> None:
    found = why(rank(0, raised(GLOO)), rank(1, raised(CUDA_OOM, 1), ended_at=T + 0.1))
    assert (found.cause, found.rank) == ("gpu_oom", 1)
    assert found.title == "rank 1 on gpu1 ran out of GPU memory at train.py:12 in step"
    assert [(line.file, line.number) for line in found.evidence] == [("train.py", 12), ("logs/rank_1.log", 6)]
    assert "--batch-size" in found.next_step
    assert found.consequences == ("rank 0 on gpu0 lost its connection to another rank at train.py:12 in step",)


@pytest.mark.parametrize("signal", ["SIGABRT", "SIGSEGV"])
def test_what_was_raised_ended_a_rank_that_aborts_on_its_way_out(signal: str) -> None:
    """Threads of gloo or CUDA that outlive the interpreter end a process so, by chance."""
    aborted = {"exit_code": -6, "signal": signal}
    found = why(rank(1, [*raised("MemoryError", 1), "terminate called without an active exception"], **aborted))
    assert (found.cause, found.title) == ("host_oom", "rank 1 on gpu1 ran out of memory at train.py:12 in step")
    assert why(rank(1, [*raised(CUDA_OOM, 1), "terminate called", "  what():  x"], **aborted)).cause == "gpu_oom"
    found = why(rank(1, [*raised("ValueError: bad batch"), "terminate called without an active exception"], **aborted))
    assert found.title == "rank 1 on gpu1 raised ValueError: bad batch and aborted"
    assert why(rank(1, raised("ValueError: version mismatch"), **aborted)).cause == "exception"


def test_the_watchdog_of_nccl_names_who_did_not_come() -> None:
    aborted = {"exit_code": -6, "signal": "SIGABRT"}
    found = why(
        rank(0, watchdog(0, 1582), **aborted),
        rank(1, watchdog(1, 1580), **aborted),
        rank(2, watchdog(2, 1582), **aborted),
    )
    assert found.cause == "collective_timeout"
    assert found.title.endswith("rank 1 on gpu1 never came to it")
    found = why(rank(0, watchdog(0, 1582), **aborted), told(1, ["loading data"]), rank(2, watchdog(2, 1582), **aborted))
    assert found.title.endswith("rank 1 on gpu1 never came to it")
    assert "loading data" in [line.text for line in found.evidence]


def test_a_gpu_that_fell_off_the_bus() -> None:
    cuda = raised("RuntimeError: CUDA error: unspecified launch failure")
    assert why(rank(0, cuda)).cause == "gpu_lost"
    other = raised("RuntimeError: CUDA error: an illegal memory access was encountered")
    assert why(rank(0, other)).cause == "cuda_error"
    seen = event("node_health", f"healthy -> degraded: {XID}", "gpu0", "warning")
    found = why(rank(0, other), around=[seen])
    assert found.cause == "gpu_lost" and XID in found.evidence[-1].text
    assert "ugro nodes drain gpu0" in found.next_step
    elsewhere = event("node_health", f"healthy -> degraded: {XID}", "gpu7", "warning")
    assert why(rank(0, other), around=[elsewhere]).cause == "cuda_error"
    told_so = rank(0, ["step 3"], exit_code=1, odd=({"kind": "gpu_lost", "uuid": "GPU-1"},))
    assert why(told_so).cause == "gpu_lost"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (XID, "gpu_lost"),
        ("NVRM: fallen off the bus and is not responding to commands.", "gpu_lost"),
        ("RuntimeError: CUDA error: out of memory", "gpu_oom"),
        ("OSError: [Errno 28] No space left on device: '/x'", "disk_full"),
        ("RuntimeError: DataLoader worker (pid 9) is killed by signal: Bus error. It is possible that dataloader's "
         "workers are out of shared memory", "shared_memory"),
        ("RuntimeError: DataLoader worker (pid(s) 9) exited unexpectedly", None),
        ("ImportError: libcudnn.so.9: cannot open shared object file: No such file or directory", "version"),
        ("torch.distributed.DistStoreError: Timed out after 31 seconds waiting for clients. 1/2 clients joined.",
         "collective_timeout"),
        ("torch.distributed.DistNetworkError: The server socket has failed to listen on any local network address. "
         "port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use", "port_busy"),
        ("torch.distributed.DistBackendError: NCCL error: remote process exited or network error", "peer_lost"),
        ("RuntimeError: expected m1 and m2 to have the same dtype, but got: float != double", None),
        ("RuntimeError: CUDA error: device-side assert triggered", "cuda_error"),
        ("step 3 loss=0.25", None),
    ],
)  # fmt: skip
def test_signs(text: str, cause: str | None) -> None:
    sign = sign_of(text)
    assert (sign.cause if sign else None) == cause


def test_an_old_message_that_was_dealt_with_is_no_cause() -> None:
    log = [
        "Connection reset by peer, trying again",
        *(f"step {n}" for n in range(80)),
        *raised("ValueError: bad batch"),
    ]
    assert why(rank(0, log)).cause == "exception"
    handled = [*raised(CUDA_OOM), *(f"step {n} with half the batch" for n in range(70)), "done for"]
    assert why(rank(0, [*handled, *raised("ValueError: bad batch")])).cause == "exception"


def test_a_killed_rank_and_the_memory_of_its_node() -> None:
    killed = rank(0, ["step 3"], exit_code=-9, signal="SIGKILL")
    assert why(killed).cause == "killed"
    full = {"gpu0": NodeFacts("gpu0", mem_used_gb=62.0, mem_total_gb=64.0)}
    found = why(killed, nodes=full)
    assert found.cause == "host_oom" and "62.0 of 64.0 GB" in found.title
    assert why(killed, nodes={"gpu0": NodeFacts("gpu0", mem_used_gb=2.0, mem_total_gb=64.0)}).cause == "killed"
    assert why(replace(killed, odd=({"kind": "rank_exited", "oom": 1},))).title.endswith("gpu0 was out of memory")
    drill = event("drill", "kill-rank: rank 0 on gpu0, by ob", "gpu0", "warning")
    assert why(killed, events=[drill]).drill == "a drill did this: kill-rank: rank 0 on gpu0, by ob"


def test_nodes_that_went() -> None:
    lost = event("node_lost", "gpu1: no answer for 5.5 s", "gpu1")
    late = rank(0, raised(GLOO), ended_at=T - 1.0)
    found = why(
        late, rank(1, exit_code=None, ended_at=None), events=[lost], reason="rank 0 on gpu0 ended with exit code 1"
    )
    assert (found.cause, found.node) == ("node_lost", "gpu1")
    assert found.consequences[0].startswith("rank 0 on gpu0 lost its connection")
    gone = event("node_lost", "gpu1: its supervisor is gone (attempt lost)", "gpu1")
    assert why(told(0), events=[gone]).cause == "supervisor_killed"
    assert why(told(0), reason="the ranks on gpu0 were stopped: signal 15").cause == "supervisor_killed"
    assert why(told(0), reason="the ranks on gpu0 were stopped: no other node answered for 6 s").cause == "node_cut_off"


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("no rank wrote anything for 20 s", "stalled"),
        ("GPU GPU-1 of rank 1 on gpu1 was lost", "gpu_lost"),
        ("rank 1 on gpu1 stands still: it was stopped by a signal (SIGSTOP) and not woken", "frozen"),
        ("rank 1 on gpu1 is frozen: stopped by a signal for 4.2 s", "frozen"),
        ("the time limit of 60 s is over", "time_limit"),
        ("made room for urgent1", "preempted"),
    ],
)
def test_what_the_controller_ended(reason: str, cause: str) -> None:
    found = why(told(0), told(1), reason=reason)
    assert (found.cause, found.title) == (cause, reason)


def test_why_it_is_not_tried_again() -> None:
    again = event("not_retried", "not tried again: it failed twice in the same way after step 3", severity="warning")
    found = why(rank(0, raised("ValueError: bad")), events=[again])
    assert found.cause == "exception" and found.notes == (again.text,)


def test_a_launch_that_was_rolled_back() -> None:
    reason = "gpu1: start attempt 1: systemd-run: Failed to start transient service unit"
    facts = Facts(job("failed", reason), newest=0, now=NOW)
    assert explain(facts).cause == "not_started"
    facts = Facts(job("failed", "gpu1: start: [Errno 28] No space left on device"), newest=0, now=NOW)
    assert explain(facts).cause == "disk_full"


def test_torchrun_that_fails_before_a_rank_starts() -> None:
    log = tuple(
        Line("attempts/1/gpu0.torchrun.log", n, text) for n, text in enumerate(raised("ImportError: libtorch.so"), 1)
    )
    nodes = {"gpu0": NodeFacts("gpu0", torchrun=log, torchrun_codes=(1,))}
    found = why(rank(0, exit_code=None, ended_at=None, started=False), nodes=nodes, reason="torchrun on gpu0 ended")
    assert (found.cause, found.node) == ("version", "gpu0")
    assert found.evidence[0].file == "attempts/1/gpu0.torchrun.log"


def test_a_job_that_waits_to_be_tried_again_and_the_attempt_that_failed() -> None:
    reason = "GPU GPU-1 of rank 1 on gpu1 was lost"
    attempt = AttemptRow("a", 1, "failed", reason, "10.0.0.1", 29500, "t", None, None, NOW, NOW)
    waits = Facts(job("pending", "gpu1 lost a GPU"), attempt, {0: told(0), 1: told(1)}, newest=1, now=NOW)
    assert "it has waited" in explain(waits).title
    named = explain(replace(waits, named=True))
    assert (named.cause, named.title) == ("gpu_lost", reason)


def test_jobs_that_have_not_failed() -> None:
    early = NOW - timedelta(minutes=10)
    waits = Facts(job("pending", "3 GPUs wanted, 1 is free; job big holds 2", created_at=early), now=NOW)
    assert explain(waits).title == "it has waited for 10m00s: 3 GPUs wanted, 1 is free; job big holds 2"
    held = Facts(job("pending", held=True, held_by="root", created_at=early), now=NOW)
    assert explain(held).cause == "held" and "root" in explain(held).title
    assert why(status="completed").cause == "completed"
    running = rank(0, exit_code=None, ended_at=None, step=7, metric_at=T - 5)
    assert why(running, status="running").title == "it is running, at step 7; nothing is wrong"
    assert why(replace(running, metric_at=T - 300), status="running").cause == "slow"
    idle = replace(running, odd=({"kind": "rank_frozen", "rank": 0, "seconds": 4.2},))
    assert why(idle, status="running").cause == "frozen"
    moved = replace(running, odd=(*idle.odd, {"kind": "rank_moves", "rank": 0}))
    assert why(moved, status="running").cause == "running"


def test_who_stopped_it() -> None:
    asked = [AskedRow(NOW, "eve", "stop", "refused"), AskedRow(NOW, "ann", "stop", "done")]
    found = why(told(0), status="stopped", asked=asked)
    assert found.cause == "stopped" and "on request of ann at 2026-01-20" in found.title
    stop = event("stop_requested", "stop asked", severity="info")
    assert "ob or somebody else" in why(told(0), status="stopped", events=[stop]).title


def test_what_a_log_holds_stays_text() -> None:
    found = why(rank(0, raised("ValueError: \x1b[2J\x1b]0;x\x07evil")))
    assert all("\x1b" not in text for text in lines(found))


def test_chained_exceptions_and_scripts_that_do_not_compile() -> None:
    chain = [
        *raised("KeyError: 'x'"),
        "",
        "During handling of the above exception, another exception occurred:",
        "",
        *raised("ValueError: y"),
    ]
    found = last_raised([Line("l", n, text) for n, text in enumerate(chain, 1)])
    assert found is not None and found.text == "ValueError: y" and [one.kind for one in found.causes] == ["KeyError"]
    broken = ['  File "/x/code/train.py", line 3', "    def f(:", "          ^", "SyntaxError: invalid syntax"]
    found = last_raised([Line("l", n, text) for n, text in enumerate(broken, 1)])
    assert found is not None and found.frame == "train.py:3"
