"""Fifty open pages of the dashboard over thirty hosts, one of which runs a job: what the agent takes of a core.

The pages are those that people leave open, most of them Cluster; each holds its stream of events and reads it, as a
browser does. The hosts are real, the sweep looks at them every 10 s, a job prints and measures twice a second.
UGRO_DASHBOARDS_S is how long it is watched, 20 s if not set.
"""

from __future__ import annotations

import asyncio
import html
import os
import re
import statistics
import time
import urllib.request

from benchmarks.agent_idle import _memory_kb, _ticks, running_agent
from benchmarks.bed import Bed, bed
from benchmarks.log_line import JOB, job, signed_in
from benchmarks.measure import Figure
from tests.ports import free_port

NAME = "dashboards_50_nodes_30"
LIMIT_PERCENT = 50.0
HOSTS = 30
PAGES = {
    "/": 20,
    "/experiments": 4,
    f"/compare?job={JOB}": 2,
    "/queue": 4,
    "/health": 5,
    "/events": 5,
    f"/experiments/{JOB}": 10,
}
"""How many browsers show which page."""
_SETTLE_S = 20.0


def measure(_bed: Bed | None, n: int = 1) -> list[Figure]:
    """Watch the agent `n` times, on a lab of its own."""
    seconds = float(os.environ.get("UGRO_DASHBOARDS_S", "20"))
    port = free_port()
    with bed(HOSTS) as many, running_agent(many, "--dashboard", str(port)) as agent, job(many, 240 + n * seconds):
        opener = signed_in(many)
        return asyncio.run(_watched(agent, port, opener, n, seconds))


async def _watched(
    agent: int, port: int, opener: urllib.request.OpenerDirector, n: int, seconds: float
) -> list[Figure]:
    base = f"http://localhost:{port}"
    jar = next(handler for handler in opener.handlers if isinstance(handler, urllib.request.HTTPCookieProcessor))
    cookie = "; ".join(f"{one.name}={one.value}" for one in jar.cookiejar)
    paths = [path for path, times in PAGES.items() for _ in range(times)]
    pages = [await asyncio.to_thread(_stream_of, opener, base, path) for path in paths]
    heard = [0] * len(pages)
    readers = [asyncio.create_task(_read(port, path, cookie, heard, number)) for number, path in enumerate(pages)]
    try:
        await asyncio.sleep(_SETTLE_S)  # each page gets all of itself first
        percents = []
        for _ in range(n):
            before, begun, had = _ticks(agent), time.monotonic(), list(heard)
            await asyncio.sleep(seconds)
            used = (_ticks(agent) - before) / os.sysconf("SC_CLK_TCK")
            percents.append(100 * used / (time.monotonic() - begun))
            quiet = [path for path, old, new in zip(pages, had, heard, strict=True) if new == old]
            ended = [reader for reader in readers if reader.done()]
            if ended or any("/experiments/" in path for path in quiet):
                raise RuntimeError(f"{len(ended)} streams ended, {len(quiet)} said nothing: {quiet[:3]}")
        print(f"{NAME}: {statistics.median(heard):.0f} bytes for a page, agent {_memory_kb(agent) / 1024:.0f} MB")
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
    return [Figure(NAME, "% of a core", percents, LIMIT_PERCENT)]


def _stream_of(opener: urllib.request.OpenerDirector, base: str, path: str) -> str:
    """Load a page as a browser does, and return the path of the stream that it follows."""
    text = opener.open(base + path, timeout=60).read().decode()
    if path.startswith("/experiments/"):
        places = re.search(r'data-places="([^"]*)"', text)
        return f"{path}/live?rank=0&places={urllib.request.quote(html.unescape(places[1]) if places else '')}"
    found = re.search(r'data-live="([^"]+)"', text)
    if found is None:
        raise RuntimeError(f"{path} follows nothing")
    return html.unescape(found[1])


async def _read(port: int, path: str, cookie: str, heard: list[int], number: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nAccept: text/event-stream\r\nCookie: {cookie}\r\n\r\n"
        writer.write(head.encode())
        first = await reader.readline()
        if b" 200 " not in first:
            raise RuntimeError(f"{path}: {first!r}")
        while block := await reader.read(1 << 16):
            heard[number] += len(block)
    finally:
        writer.close()
