"""Sends a notice to an address, with Apprise: in a thread, with a time-out, and without telling its secrets on."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

from ugro_py.alerts.rules import Target
from ugro_py.events import harmless

TIMEOUT_S = 30.0
BACKOFF_S = (2.0, 10.0, 60.0, 300.0)
"""How long to wait after each failed try; after the last one an address is given up for this notice."""

_TYPES = {"info": "info", "warning": "warning", "error": "failure", "over": "success"}


def send(target: Target, title: str, body: str, kind: str) -> str:
    """Send a notice; returns "" or why it could not be sent. Blocks; `deliver` does not.

    Args:
        target: where to.
        title: its subject.
        body: its text.
        kind: info, warning, error or over; some receivers show it by colour or icon.
    """
    import apprise  # 0.1 s and more: only who sends pays for it

    sender = apprise.Apprise()
    capture: Any = apprise.LogCapture  # has no types
    with capture(level=logging.WARNING, name="apprise", fmt="%(message)s") as said:
        if not sender.add(target.url):
            return "Apprise does not know such an address"
        try:
            sent = sender.notify(body=body, title=title, notify_type=apprise.NotifyType(_TYPES.get(kind, "info")))
        except Exception as error:  # noqa: BLE001  a hundred services' code: none of them may end the agent
            return _without_secrets(f"{type(error).__name__}: {error}", target)
        if sent:
            return ""
        text = " ".join(said.getvalue().split())
    return _without_secrets(text or "it was not taken", target)


def _without_secrets(text: str, target: Target) -> str:
    for secret in target.secrets:
        text = text.replace(secret, "***")
    return harmless(text)[:300]


async def deliver(
    target: Target, title: str, body: str, kind: str, timeout_s: float = TIMEOUT_S,
    how: Callable[[Target, str, str, str], str] = send,
) -> str:  # fmt: skip
    """Send a notice without holding up anything else; returns "" or why it could not be sent."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[str] = loop.create_future()

    def tell(result: str) -> None:
        if not done.done():
            done.set_result(result)

    def work() -> None:
        result = how(target, title, body, kind)
        try:
            loop.call_soon_threadsafe(tell, result)
        except RuntimeError:
            pass  # the loop has ended meanwhile: nobody waits for it any more

    # A daemon of its own: one that hangs must hold up neither the others nor the end of the process.
    threading.Thread(target=work, name="alert", daemon=True).start()
    try:
        return await asyncio.wait_for(done, timeout_s)
    except TimeoutError:
        return f"no answer in {timeout_s:g} s"
