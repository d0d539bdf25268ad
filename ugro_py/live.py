"""What `ugro launch` shows while a job runs: a line per step, then live its ranks, speed, ETA and the loss curve."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import click

from ugro_py.display import duration, number, safe_line
from ugro_py.pace import Pace, finite, seconds_left, tokens_per_second

# On a pipe there is no live table; a line this often is enough to see that it goes on.
_LINE_EVERY_S = 5.0
# Of the curve every second point goes when there are so many: a terminal has fewer columns.
_MOST_POINTS = 2000
_CURVE_LINES = 14


class Progress:
    """A listener of the engine that shows what it hears. Use it as a context manager around the run.

    Args:
        job: name of the job.
        quiet: show nothing (the caller prints JSON).
        live: redraw a table in place; otherwise print lines.
    """

    def __init__(self, job: str, *, quiet: bool = False, live: bool = True) -> None:
        self._job = job
        self._quiet = quiet
        self._want_live = live and not quiet
        self._live: Any = None
        self._begun = time.time()
        self._ranks: dict[int, dict[str, Any]] = {}
        self._metrics: dict[int, dict[str, Any]] = {}
        self._attempt: int | None = None
        self._pace, self._paced = Pace(), -1  # and of which rank
        self._losses: list[tuple[float, float | None]] = []
        self._line_due = 0.0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_live()

    def __call__(self, kind: str, data: Mapping[str, Any]) -> None:
        """Take in one message of the engine."""
        if self._quiet and kind != "waiting":
            return
        handler = getattr(self, f"_on_{kind}", None)
        if handler:
            try:
                handler(data)
            except BrokenPipeError:
                self._reader_is_gone()

    def _reader_is_gone(self) -> None:
        """Go on in silence: the job does not end because `| head` has seen enough."""
        self._quiet = True
        with Path(os.devnull).open("w") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())

    def _say(self, text: str) -> None:
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        else:
            click.echo(text)

    def _on_step(self, data: Mapping[str, Any]) -> None:
        elapsed = f" [{data['elapsed_s']:.1f} s]" if "elapsed_s" in data else ""
        self._say(f"{data['text']}{elapsed}")

    def _on_waiting(self, data: Mapping[str, Any]) -> None:
        """Say what the job waits for; on standard error where standard output is for JSON."""
        place = f" ({data['position']} of {data['waiting']} in the queue)" if "position" in data else ""
        text = f"waiting{place}: {safe_line(data['reason'])}"
        if self._quiet:
            click.echo(text, err=True)
        else:
            self._say(text)

    def _on_warning(self, data: Mapping[str, Any]) -> None:
        self._say(f"warning: {data['text']}")

    def _on_suspect(self, data: Mapping[str, Any]) -> None:
        self._say(f"{data['node']} is silent; trying to reach it")

    def _on_stopping(self, data: Mapping[str, Any]) -> None:
        self._say(f"stopping; the ranks get {data['grace_s']:g} s to save what they need")

    def _on_failed(self, data: Mapping[str, Any]) -> None:
        self._end_live()
        self._say(f"failed: {data['text']}; the gang was stopped on every node")

    def _on_running(self, data: Mapping[str, Any]) -> None:
        self._say(f"all ranks run; they started within {data['sync_window_s']:.2f} s of each other")
        if self._want_live and self._live is None:
            from rich import get_console
            from rich.live import Live

            self._live = Live(get_renderable=self._drawn, console=get_console(), refresh_per_second=4, transient=True)
            self._live.start()

    def _on_event(self, data: Mapping[str, Any]) -> None:
        event, attempt = data["event"], data.get("attempt")
        if attempt != self._attempt:  # its ranks may be others, on other nodes, and its steps begin where they like
            self._attempt = attempt
            self._ranks, self._metrics, self._pace = {}, {}, Pace()
        if event["kind"] == "rank_started":
            self._ranks[event["rank"]] = {"node": data["node"], "status": "running"}
        elif event["kind"] == "rank_exited" and event["rank"] in self._ranks:
            self._ranks[event["rank"]]["status"] = "completed" if event["exit_code"] == 0 else "ended"
        elif event["kind"] == "metrics":
            self._metrics[event["rank"]] = event
            self._take_step(event)
            self._loss(event)
            self._line(event)

    def _take_step(self, event: Mapping[str, Any]) -> None:
        """Count the step of the first rank that tells any."""
        rank, step = min(self._metrics), finite(event.get("step"))
        if rank != self._paced:
            self._pace, self._paced = Pace(), rank
        if step is not None and event["rank"] == rank:
            self._pace.take(event["t"], step)

    def _loss(self, event: Mapping[str, Any]) -> None:
        """Keep a point of the curve: of the first rank that tells a loss, since a retry the newer of two."""
        step, loss = finite(event.get("step")), finite(event.get("training_loss"))
        if step is None or loss is None or event["rank"] != min(self._metrics):
            return
        while self._losses and self._losses[-1][0] >= step:
            self._losses.pop()
        self._losses.append((step, loss))
        if len(self._losses) > _MOST_POINTS:
            del self._losses[1:-1:2]

    def _line(self, event: Mapping[str, Any]) -> None:
        """Print where the job is, now and then, where no live table can be drawn."""
        if self._live is not None or self._want_live or event["rank"] != 0 or time.time() < self._line_due:
            return
        self._line_due = time.time() + _LINE_EVERY_S
        from ugro_py.top.widgets import steps

        self._say(
            f"step {steps(event)}  loss {number(finite(event.get('training_loss')))}  "
            f"{number(tokens_per_second(self._metrics), 'tokens/s')}  ETA {duration(self._eta_s(event))}"
        )

    def _eta_s(self, event: Mapping[str, Any]) -> float | None:
        """Return the seconds left at the pace of the newest steps of this attempt."""
        return seconds_left(event.get("step"), event.get("total_steps"), self._pace.steps_per_second())

    def _drawn(self) -> Any:
        """Return what the live view shows: the ranks, and below them the curve where the terminal has room for it."""
        from rich import get_console
        from rich.console import Group
        from rich.text import Text

        from ugro_py.top import widgets

        newest = self._metrics.get(0) or next(iter(self._metrics.values()), None)
        eta = self._eta_s(newest) if newest else None
        title = widgets.headline(self._job, time.time() - self._begun, tokens_per_second(self._metrics), eta)
        rows = [{"rank": rank, **state, "metrics": self._metrics.get(rank)} for rank, state in self._ranks.items()]
        rows.sort(key=lambda row: row["rank"])
        table = widgets.rank_table(rows, Text.assemble(title, "   (Ctrl-C detaches)"))
        console = get_console()
        left = console.height - len(rows) - 6  # its title, head and lines, and the last line of the terminal
        if len(self._losses) < 2 or left < _CURVE_LINES:
            return table
        width = min(100, console.width)
        braille = "utf" in console.encoding
        curve = widgets.drawn(self._losses, "training_loss", width, _CURVE_LINES, braille=braille)
        return Group(table, curve)

    def _end_live(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
