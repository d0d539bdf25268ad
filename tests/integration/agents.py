# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""An agent that runs beside a test."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.integration.support import UGRO, Ugro, end_with_parent, wait_until


@contextmanager
def running_agent(ugro: Ugro, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `ugro agent` until the end, when it must end within seconds of SIGTERM; its log lies beside the store."""
    with ugro.data.parent.joinpath("agent.log").open("ab") as log:
        process = subprocess.Popen(
            [str(UGRO), "-i", str(ugro.inventory), "agent", *options],
            env=ugro.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            preexec_fn=end_with_parent,
        )  # fmt: skip
    try:
        wait_until(lambda: acts(ugro, process), "the agent acts", 60)
        yield process
        assert process.poll() is None, f"the agent ended with {process.returncode}"
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError("the agent did not end within 20 s of SIGTERM") from None


def acts(ugro: Ugro, process: subprocess.Popen[bytes]) -> bool:
    """Say whether this agent holds the lease."""
    assert process.poll() is None, f"the agent ended with {process.returncode}"
    if not (ugro.data / "ugro.db").exists():
        return False
    with ugro.store() as store:
        lease = store.lease()
    return bool(lease and lease.held and lease.holder.pid == process.pid)
