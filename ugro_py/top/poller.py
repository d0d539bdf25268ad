"""Asks for the state of the cluster again and again, beside the screen, so that keys are never waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ugro_py.errors import UgroError
from ugro_py.top.doors import Door, Points


@dataclass(frozen=True)
class Seen:
    """What one round found. `problem` says why there is nothing newer, or no curve.

    `bug` is what ended the poller although nobody wanted that.
    """

    snapshot: dict[str, Any] = field(default_factory=dict)
    job: str | None = None
    column: str = ""
    points: Points = field(default_factory=list)
    problem: str = ""
    bug: BaseException | None = None


class Poller(threading.Thread):
    """A thread that asks a door and tells what it found. It ends with the process, whatever it waits for.

    Args:
        open_door: called in the thread; the door is closed when it ends.
        tell: called in the thread with what each round found.
        every_s: pause between two rounds; `want` ends it early.
    """

    def __init__(self, open_door: Callable[[], Door], tell: Callable[[Seen], object], every_s: float) -> None:
        super().__init__(name="poller", daemon=True)
        self._open_door, self._tell, self._every_s = open_door, tell, every_s
        self._wanted: tuple[str | None, str, int] = (None, "", 0)
        self._wake = threading.Event()
        self._over = False

    def want(self, job: str | None, column: str, points: int) -> None:
        """Draw this column of this job from now on, with so many points."""
        if (job, column, points) != self._wanted:
            self._wanted = (job, column, points)
            self._wake.set()

    def refresh(self) -> None:
        """Ask now, not at the next round."""
        self._wake.set()

    def stop(self) -> None:
        """End after this round."""
        self._over = True
        self._wake.set()

    def run(self) -> None:
        """Ask until `stop`."""
        door: Door | None = None
        try:
            while not self._over:
                begun = time.monotonic()
                self._wake.clear()
                try:
                    door = door or self._open_door()
                    seen = self._round(door)
                except (UgroError, OSError) as error:
                    seen = Seen(problem=" ".join(str(error).split()))
                if not self._over:
                    self._tell(seen)
                # Who asks a slow store all the time makes it slower.
                self._wake.wait(max(self._every_s, 2 * (time.monotonic() - begun)))
        except BaseException as error:
            # Without this the screen would go on to show what was.
            self._tell(Seen(bug=error))
            raise
        finally:
            if door is not None:
                door.close()

    def _round(self, door: Door) -> Seen:
        job, column, count = self._wanted
        snapshot = door.snapshot()
        try:
            points = door.curve(job, column, count) if job is not None and count else []
        except (UgroError, OSError) as error:  # a full disk, say: all else is known
            return Seen(snapshot, job, column, problem=" ".join(str(error).split()))
        return Seen(snapshot, job, column, points)
