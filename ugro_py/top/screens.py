"""The screens over `ugro top`: logs of a job, the question before it is stopped, the keys."""

from __future__ import annotations

import json
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen, Screen
from textual.widgets import Button, Footer, RichLog, Static

from ugro_py.display import safe_line
from ugro_py.top import verb
from ugro_py.top.widgets import plain

_TAIL = "500"
_KEPT_LINES = 10_000
# Of a line that is longer the rest is left out here; `ugro logs` has all of it.
_SHOWN = 4_000

KEYS = """
 ↑ ↓        choose a node or a job          Tab  from nodes to jobs and back
 Enter      the job alone, its curve large  Esc  back
 m          next curve: loss, tokens/s, gradient norm, learning rate, GPU
 l          logs of the job                 s    stop the job (asks first)
 /          show only what holds these words: names, users, states
 t          light or dark                   r    read everything again now
 q, Ctrl-C  leave; no job ends by that
"""


class LogsScreen(Screen[None]):
    """The logs of a job's ranks as they grow, as `ugro logs --follow` gives them.

    Args:
        job: whose logs.
        inventory: as the user gave it.
        ranks: the numbers of its ranks, to choose one.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,l", "app.pop_screen", "Back"),
        Binding("r", "rank", "Next rank"),
        Binding("f", "follow", "Follow/hold"),
        Binding("ctrl+c", "app.quit", show=False, priority=True),
    ]

    def __init__(self, job: str, inventory: str | None, ranks: list[int]) -> None:
        super().__init__()
        self._job, self._inventory = job, inventory
        self._ranks = ["all", *map(str, ranks)] if len(ranks) != 1 else ["all"]
        self._rank = "all"

    def compose(self) -> ComposeResult:
        """Lay out the screen."""
        yield Static(id="logs-title", markup=False)
        yield RichLog(max_lines=_KEPT_LINES, wrap=True, markup=False, highlight=False, min_width=0, id="lines")
        yield Footer()

    def on_mount(self) -> None:
        """Begin to follow."""
        self.query_one(RichLog).focus()
        self._begin()

    def _begin(self) -> None:
        self._title()
        self.query_one(RichLog).clear()
        self.run_worker(self._read(self._rank), exclusive=True, group="logs")

    def _title(self) -> None:
        which = "all ranks" if self._rank == "all" else f"rank {self._rank}"
        held = "" if self.query_one(RichLog).auto_scroll else "   held: f follows again"
        self.query_one("#logs-title", Static).update(Text.assemble((f"{self._job}, logs of {which}", "bold"), held))

    async def _read(self, rank: str) -> None:
        log = self.query_one(RichLog)
        words = ("logs", self._job, "--rank", rank, "--follow", "--tail", _TAIL, "--json")
        count = 0
        async for line in verb.lines(verb.command(self._inventory, *words)):
            count += 1
            log.write(shown(line, several=len(self._ranks) > 1 and rank == "all"))
        log.write(Text("nothing was printed" if not count else "— the job has ended —", style="dim"))

    def action_rank(self) -> None:
        """Show the next rank alone; after the last one all again."""
        self._rank = self._ranks[(self._ranks.index(self._rank) + 1) % len(self._ranks)]
        self._begin()

    def action_follow(self) -> None:
        """Stay where the reader is, or go on with what comes."""
        log = self.query_one(RichLog)
        log.auto_scroll = not log.auto_scroll
        if log.auto_scroll:
            log.scroll_end(animate=False)
        self._title()


def shown(line: bytes, *, several: bool) -> Text:
    """Return a line of `ugro logs --json` as it may be shown; anything else it says as it is."""
    try:
        found = json.loads(line)
        rank, text = int(found["rank"]), str(found["line"])
    except (ValueError, KeyError, TypeError):
        return plain(line.decode(errors="replace"), "red")
    more = f" … {len(text) - _SHOWN} more characters, see `ugro logs`" if len(text) > _SHOWN else ""
    content = Text.from_ansi(safe_line(text[:_SHOWN].expandtabs()))
    return Text.assemble((f"{rank}│", "cyan"), content, more) if several else Text.assemble(content, more)


class StopScreen(ModalScreen[str]):
    """Asks whether a job is to be stopped; gives `stop`, `kill`, or nothing.

    Args:
        job: which.
        user: whose it is.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer('stop')", "Stop"),
        Binding("k", "answer('kill')", "Kill"),
        Binding("n,escape,q", "answer('')", "Let it run"),
        Binding("left,up", "app.focus_previous", show=False),
        Binding("right,down", "app.focus_next", show=False),
        Binding("ctrl+c", "app.quit", show=False, priority=True),
    ]

    def __init__(self, job: str, user: str) -> None:
        super().__init__()
        self._job, self._user = job, user

    def compose(self) -> ComposeResult:
        """Lay out the question."""
        with Vertical(id="question"):
            yield Static(Text.assemble("Stop ", (self._job, "bold"), f", a job of {self._user}?"))
            yield Static("Its ranks get 10 s to save what they need; what it achieved is collected.", markup=False)
            with Horizontal():
                yield Button("Let it run (n)", id="none")
                yield Button("Stop (y)", id="stop", variant="warning")
                yield Button("Kill now (k)", id="kill", variant="error")

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Take the answer."""
        self.action_answer("" if event.button.id == "none" else str(event.button.id))

    def action_answer(self, answer: str) -> None:
        """Give the answer."""
        self.dismiss(answer)


class HelpScreen(ModalScreen[None]):
    """The keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,enter", "app.pop_screen", "Back"),
        Binding("ctrl+c", "app.quit", show=False, priority=True),
    ]

    def compose(self) -> ComposeResult:
        """Lay out the keys."""
        yield Static(Text(KEYS.strip("\n")), id="keys")
