"""What the agent tells systemd (sd_notify(3)): that it is ready, that it is well, that it ends."""

from __future__ import annotations

import os
import socket


class Notifier:
    """Talks to the service manager that started this process; says nothing where there is none."""

    def __init__(self) -> None:
        # Not for the programs that the agent starts.
        path = os.environ.pop("NOTIFY_SOCKET", "")
        interval = os.environ.pop("WATCHDOG_USEC", "")
        for_us = os.environ.pop("WATCHDOG_PID", "") in ("", str(os.getpid()))
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self.watchdog_s = int(interval) / 1e6 if interval.isdigit() and for_us else 0.0
        """The manager wants to hear that often that this process is well; 0 where it does not."""

    def tell(self, *lines: str) -> None:
        """Send `READY=1`, `STATUS=…`, `WATCHDOG=1`, `STOPPING=1`; a manager that does not listen is no error."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            try:
                sock.connect(self._address)
                sock.send("\n".join(lines).encode())
            except OSError:
                return  # nothing depends on it: at worst systemd starts the agent anew, which finds everything
