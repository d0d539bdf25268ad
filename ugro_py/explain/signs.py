"""Words by which a failure is known, in what Python, torch, NCCL, gloo and the kernel print. Pure.

Seen in real runs: gloo's and Python's. NCCL's time-outs, CUDA's and Xid's texts are those posted in the issues of
pytorch, open-gpu-kernel-modules and others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Sign:
    """One cause and what tells of it. `consequence`: it mostly follows from something that happened elsewhere."""

    cause: str
    pattern: re.Pattern[str]
    consequence: bool = False


def _sign(cause: str, pattern: str, consequence: bool = False) -> Sign:
    return Sign(cause, re.compile(pattern, re.IGNORECASE), consequence)


# In order: the first that matches decides.
SIGNS: tuple[Sign, ...] = (
    _sign(
        "gpu_lost",
        r"fallen off the bus|NVRM: Xid|GPU is lost|unable to determine the device handle|uncorrectable ECC error"
        r"|CUDA error: (?:an? )?(?:uncorrectable|unspecified launch failure|unknown error)"
        r"|CUDA error: .*device.*unavailable"
        r"|no CUDA-capable device",
    ),
    _sign(
        "gpu_oom",
        r"CUDA out of memory|CUDA error: out of memory|HIP out of memory|CUBLAS_STATUS_ALLOC_FAILED"
        r"|OutOfMemoryError: CUDA",
    ),
    _sign("disk_full", r"No space left on device|\bENOSPC\b|Disk quota exceeded|file system of \S+ is full"),
    _sign("port_busy", r"\bEADDRINUSE\b|address already in use|port .{0,60}already in use"),
    _sign(
        "host_oom",
        r"\b\w*MemoryError\b|std::bad_alloc|DefaultCPUAllocator: (?:can't allocate|not enough) memory"
        r"|Cannot allocate memory|Out of memory: Killed process|oom-kill|DataLoader worker .* killed by signal: Killed",
    ),
    _sign(
        "shared_memory",
        r"insufficient shared memory|unable to (?:open|allocate|write).{0,40}shared memory|killed by signal: Bus error",
    ),
    _sign(
        "version",
        r"ModuleNotFoundError|ImportError|undefined symbol|cannot open shared object file|GLIBC\w*_[\d.]+' not found"
        r"|driver version is insufficient|NVIDIA driver on your system is too old|no kernel image is available"
        r"|compiled with CUDA|Torch not compiled|version mismatch|driver/library version",
    ),
    _sign(
        "collective_timeout",
        r"Watchdog caught collective operation timeout|Timed out waiting \d+ ?ms for|collective operation timeout"
        r"|Timed out after \d+ seconds? waiting for clients|socket has timed out after|timed out in \w*barrier"
        r"|wait timeout after \d+ ?ms|(?:Store|Dist\w*)Error: .*tim(?:ed|e) ?out|Broken promise.*timeout",
    ),
    _sign(
        "peer_lost",
        r"Connection (?:closed|reset) by peer|Broken pipe|ncclRemoteError|remote process exited|Socket closed"
        r"|recvValue failed|Did the remote server shutdown|connection was likely closed|Connection refused"
        r"|failed to (?:recv|send), got 0 bytes|NCCL communicator was aborted|No route to host"
        r"|heartbeat monitor timed out",
        consequence=True,
    ),
    _sign(
        "cuda_error",
        r"CUDA error|device-side assert|CUBLAS_STATUS_|CUDNN_STATUS_|illegal memory access|misaligned address"
        r"|unhandled cuda error",
    ),
)

_ENQUEUED = re.compile(r"Rank (\d+)\].*last enqueued (?:NCCL )?work: (\d+)")


def sign_of(text: str) -> Sign | None:
    """Return the sign that a text shows, the gravest first."""
    return next((sign for sign in SIGNS if sign.pattern.search(text)), None)


def last_enqueued(text: str) -> tuple[int, int] | None:
    """Return (rank, number of the last collective it came to) that a line of NCCL's watchdog tells."""
    found = _ENQUEUED.search(text)
    return (int(found[1]), int(found[2])) if found else None
