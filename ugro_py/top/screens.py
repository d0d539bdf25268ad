"""The screens over `ugro top`: logs of a job, the question before it is stopped, the keys."""

from __future__ import annotations

from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Button, Footer, Input, Static

from ugro_py.events import harmless
from ugro_py.top import verb
from ugro_py.top.field import Field
from ugro_py.top.log_lines import LogLines, shown

_TAIL = "500"

KEYS = {
    "↑ ↓": "choose a node or a job",
    "Tab": "from nodes to jobs and back",
    "Enter": "the job alone, its curve large; Esc goes back",
    "m": "next curve: loss, tokens/s, learning rate, gradient norm, GPU",
    "l": "logs of the job",
    "s": "stop the job (asks first)",
    "/": "show only what holds these words: names, users, states; in logs: search, n the next and N the one before",
    "t": "light or dark",
    "r": "read everything again now",
    "q, Ctrl-C": "leave; no job ends by that",
}


class LogsScreen(Screen[None]):
    """The logs of a job's ranks as they grow, as `ugro logs --follow` gives them.

    Args:
        job: whose logs.
        inventory: as the user gave it.
        ranks: the numbers of its ranks, to choose one.
        waits: what it waits for, where it has not begun; shown until a line comes.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,l", "back", "Back"),
        # With priority: the letters that follow at once are already for the field.
        Binding("slash", "search", "Search", key_display="/", priority=True),
        Binding("n", "next", "Next"),
        Binding("N", "previous", "Previous"),
        Binding("r", "rank", "Next rank"),
        Binding("f", "follow", "Follow/hold"),
        Binding("ctrl+c", "app.quit", show=False, priority=True),
    ]

    def __init__(self, job: str, inventory: str | None, ranks: list[int], waits: str = "") -> None:
        super().__init__()
        self._job, self._inventory, self._waits = job, inventory, waits
        self._ranks = ["all", *map(str, ranks)] if len(ranks) != 1 else ["all"]
        self._rank = "all"
        self._words = self._found = ""

    def compose(self) -> ComposeResult:
        """Lay out the screen."""
        yield Static(id="logs-title", markup=False)
        yield LogLines(id="lines")
        words = "text to look for; Enter alone repeats the last search"
        yield Field(words, "search", self._look_for, self.action_back)
        yield Footer()

    def on_mount(self) -> None:
        """Begin to follow."""
        self._lines.focus()
        # Once it is known how wide lines can be.
        self.call_after_refresh(self._begin)

    @property
    def _lines(self) -> LogLines:
        return self.query_one(LogLines)

    def _begin(self) -> None:
        self._found = ""
        self._title()
        self._lines.clear()
        self.run_worker(self._read(self._rank), exclusive=True, group="logs")

    def _title(self) -> None:
        which = "all ranks" if self._rank == "all" else f"rank {self._rank}"
        found = f"   “{harmless(self._words)}” {self._found}" if self._words else ""
        held = "" if self._lines.auto_scroll else "   held: f follows again"
        title = Text.assemble((f"{self._job}, logs of {which}", "bold"), found, held)
        self.query_one("#logs-title", Static).update(title)

    async def _read(self, rank: str) -> None:
        log = self._lines
        words = ("logs", self._job, "--rank", rank, "--follow", "--tail", _TAIL, "--json")
        count = 0
        log.write(Text(self._waits or "nothing is printed yet", style="dim"))
        async for line in verb.lines(verb.command(self._inventory, *words)):
            if not count:
                log.clear()
            count += 1
            log.add(shown(line, several=len(self._ranks) > 1 and rank == "all"))
        if not count:
            log.clear()
        log.write(Text("nothing was printed" if not count else "— the job has ended —", style="dim"))

    def action_back(self) -> None:
        """Leave the search, else the logs."""
        field = self.query_one("#search", Input)
        if field.display:
            field.display = False
            self.set_focus(self._lines)
        else:
            self.dismiss()

    def action_rank(self) -> None:
        """Show the next rank alone; after the last one all again."""
        self._rank = self._ranks[(self._ranks.index(self._rank) + 1) % len(self._ranks)]
        self._begin()

    def action_follow(self) -> None:
        """Stay where the reader is, or go on with what comes."""
        log = self._lines
        log.auto_scroll = not log.auto_scroll
        if log.auto_scroll:
            log.scroll_end(animate=False)
        self._title()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Say whether a key is a command: none is while something is typed to look for."""
        return action != "search" or not self.query_one("#search", Input).display

    def action_search(self) -> None:
        """Ask what to look for."""
        field = self.query_one("#search", Input)
        field.value, field.display = "", True
        self.set_focus(field)  # at once: the next key is the first letter, and no command

    def on_input_changed(self, event: Input.Changed) -> None:
        """Wait for Enter."""
        event.stop()  # the field of the screen below has a meaning of its own

    def _look_for(self, words: str) -> None:
        """Go to the next line that has it."""
        self.query_one("#search", Input).display = False
        self.set_focus(self._lines)
        if words:
            self._words = words
            self._lines.look_for(self._words)
        self.action_next()

    def action_next(self) -> None:
        """Go to the next line that was looked for."""
        self._find(back=False)

    def action_previous(self) -> None:
        """Go to the one before."""
        self._find(back=True)

    def _find(self, *, back: bool) -> None:
        found = self._lines.find(back=back)
        nowhere = f"not found in the last {_TAIL} lines of each rank and those that came since"
        self._found = nowhere if found is None else found
        self._title()


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
        table = Table.grid(padding=(0, 2))
        for key, meaning in KEYS.items():
            table.add_row(Text(key, no_wrap=True), Text(meaning))
        with VerticalScroll(id="keys"):
            yield Static(table)
