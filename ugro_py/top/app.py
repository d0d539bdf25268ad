"""The screen of `ugro top`: nodes and their GPUs, jobs, the curve and the ranks of the job that is chosen."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.events import Resize
from textual.message import Message
from textual.widgets import DataTable, Footer, Input, Static

from ugro_py.events import harmless
from ugro_py.state.models import ENDED
from ugro_py.top import look, verb, widgets
from ugro_py.top.doors import Door
from ugro_py.top.field import Field
from ugro_py.top.poller import Poller, Seen
from ugro_py.top.screens import HelpScreen, LogsScreen, StopScreen
from ugro_py.top.tables import LiveTable

_POINTS = 1000  # of a curve
_PARTS = "#head, #problem, #nodes, #jobs, #title, #curve, #ranks"


class TopApp(App[None]):
    """`ugro top`.

    Args:
        open_door: opens what is asked; called in another thread.
        inventory: as the user gave it, for the verbs that keys run.
        every_s: pause between two looks, in seconds.
        dark: begin with light letters on dark.
    """

    CSS = look.CSS
    TITLE = "ugro top"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "logs", "Logs"),
        Binding("s", "stop", "Stop"),
        Binding("enter", "zoom", "Large", priority=False),
        Binding("m", "metric", "Curve"),
        # Before the table has it: what is typed behind it would go to the table too, each letter a command.
        Binding("slash", "filter", "Filter", key_display="/", priority=True),
        Binding("t", "theme", "Light/dark", show=False),
        Binding("r", "refresh", "Refresh", show=False),
        Binding("question_mark", "help", "Keys", key_display="?"),
        Binding("escape", "everything", "Back", show=False),
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
    ]

    class Round(Message):
        """The poller has looked."""

        def __init__(self, seen: Seen) -> None:
            super().__init__()
            self.seen = seen

    def __init__(
        self, open_door: Callable[[], Door], inventory: str | None = None, *, every_s: float = 1.0, dark: bool = True
    ) -> None:
        super().__init__()
        self.theme = "textual-dark" if dark else "textual-light"
        self._inventory = inventory
        self._poller = Poller(open_door, lambda seen: self.post_message(self.Round(seen)), every_s)
        self._seen = Seen()
        self._seen_at = time.monotonic()
        self._column = next(iter(widgets.CURVES))
        self._words: list[str] = []

    def compose(self) -> ComposeResult:
        """Lay out the screen."""
        yield Static("reading the state of the cluster …", id="head", markup=False)
        yield Static(id="problem", markup=False)
        yield LiveTable(look.NODES_NEED, id="nodes")
        yield LiveTable(look.JOBS_NEED, id="jobs")
        with Vertical(id="detail"):
            yield Static(id="title", markup=False)
            with Horizontal():
                yield Static(id="curve", markup=False)
                yield Static(id="ranks", markup=False)
        words = "words to look for; Esc shows everything"
        yield Field(words, "filter", self._keep_what_was_found, self.action_everything)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Begin to look."""
        self._jobs.focus()
        self._poller.start()
        # By default it would leave the terminal without echo, on the other screen, with the mouse reported.
        # SIGHUP keeps its default: a terminal that is gone takes nothing more, and who writes to it waits for ever.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.exit, None, 128 + signal.SIGTERM)

    def on_unmount(self) -> None:
        """Stop looking."""
        self._poller.stop()

    @property
    def _jobs(self) -> LiveTable:
        return self.screen_stack[0].query_one("#jobs", LiveTable)

    @property
    def _is_whole(self) -> bool:
        """Whether all parts are there: a message may come while the last ones are made, or the first ones have gone."""
        return bool(self.screen_stack) and len(self.screen_stack[0].query(_PARTS)) == _PARTS.count("#")

    def _static(self, name: str) -> Static:
        return self.screen_stack[0].query_one(f"#{name}", Static)

    # -- what is shown ----------------------------------------------------------------------------------------

    def on_top_app_round(self, message: Round) -> None:
        """Show what the poller found."""
        if message.seen.bug is not None:
            raise message.seen.bug
        if not self._is_whole:
            return
        seen, problem = message.seen, harmless(message.seen.problem)
        if problem and not seen.snapshot and self._seen.snapshot:
            problem += f" (shown is what was {time.monotonic() - self._seen_at:.0f} s ago)"
        self._static("problem").update(Text(problem))
        self._static("problem").display = bool(problem)
        if not seen.snapshot:
            return
        self._seen, self._seen_at = seen, time.monotonic()
        self._draw()

    def on_resize(self, event: Resize) -> None:
        """Draw anew for another size."""
        self.call_after_refresh(self._draw)

    def _draw(self) -> None:
        found = self._seen.snapshot
        if not self._is_whole:
            return
        self.screen_stack[0].set_class(self.size.height < 18, "low")
        if not found:
            return
        nodes, jobs = found["nodes"], widgets.in_order(found["jobs"])
        self._static("head").update(Text(look.head(found, self.size.width - 2)))
        node_rows = {
            key: cells
            for node in nodes
            for key, cells in widgets.node_rows(node).items()
            if self._wanted(cell.plain for cell in cells.values())
        }
        self.screen_stack[0].query_one("#nodes", LiveTable).show(node_rows, look.NODE_COLUMNS)
        rows = {job["job"]: widgets.job_row(job) for job in jobs}
        known = {name: cells for name, cells in rows.items() if self._wanted(cell.plain for cell in cells.values())}
        self._jobs.show(known, look.JOB_COLUMNS, next((job["job"] for job in jobs if job["status"] == "running"), None))
        self._detail()

    def _wanted(self, cells: Any) -> bool:
        text = " ".join(cells).lower()
        return all(word in text for word in self._words)

    def _job(self) -> dict[str, Any] | None:
        chosen = self._jobs.chosen
        return next((job for job in self._seen.snapshot.get("jobs", ()) if job["job"] == chosen), None)

    def _detail(self) -> None:
        """Show the job that is chosen: what it does, its curve, its ranks."""
        job = self._job()
        curve, ranks = self._static("curve"), self._static("ranks")
        if job is None:
            self._static("title").update(Text("No job yet. Start one with `ugro launch`." if not self._words else ""))
            curve.update("" if self._seen.snapshot["nodes"] else "No nodes yet. Add one with `ugro nodes add`.")
            ranks.update("")
            self._poller.want(None, "", 0)
            return
        self._static("title").update(look.title(job, self.size.width - 2))
        wide = self.size.width >= look.RANKS_NEED and bool(job["rank_metrics"])
        ranks.display = wide
        if wide:
            ranks.update(widgets.rank_table(job["rank_metrics"]))
        self._poller.want(job["job"], self._column, _POINTS)
        drawn = (self._seen.job, self._seen.column) == (job["job"], self._column)
        points = self._seen.points if drawn else []
        width, height = curve.size
        if not drawn:
            curve.update("")
        elif not points and job["step"] is None:
            curve.update(look.instead_of_curve(job, width))
        elif width and height:
            curve.update(widgets.drawn(points, self._column, width, height))

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Show another job."""
        if event.data_table.id == "jobs" and self._is_whole:
            self._detail()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Show the job alone; of a node, go to the job that holds it."""
        if event.data_table.id == "jobs":
            self.action_zoom()

    # -- keys -------------------------------------------------------------------------------------------------

    def action_zoom(self) -> None:
        """Show the job that is chosen alone, or everything again."""
        if self._job() is not None or self.screen.has_class("zoom"):
            self.screen.toggle_class("zoom")
            self.call_after_refresh(self._draw)

    def action_everything(self) -> None:
        """Show everything again."""
        self.screen.remove_class("zoom")
        field = self.query_one("#filter", Input)
        field.value, field.display = "", False
        self.screen.set_focus(self._jobs)
        self.call_after_refresh(self._draw)

    def action_metric(self) -> None:
        """Draw the next column."""
        names = list(widgets.CURVES)
        self._column = names[(names.index(self._column) + 1) % len(names)]
        self._detail()

    def action_refresh(self) -> None:
        """Look now."""
        self._poller.refresh()

    def action_theme(self) -> None:
        """Light or dark."""
        self.theme = "textual-light" if self.theme == "textual-dark" else "textual-dark"

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(HelpScreen())

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Say whether a key is a command: a slash is none on other screens, nor where words are typed."""
        return action != "filter" or (len(self.screen_stack) == 1 and not isinstance(self.focused, Input))

    def action_filter(self) -> None:
        """Ask for words."""
        field = self.query_one("#filter", Input)
        field.display = True
        self.screen.set_focus(field)  # at once: the next key is the first letter, and no command

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show what holds the words."""
        self._look_for(event.value)

    def _look_for(self, words: str) -> None:
        self._words = words.lower().split()
        self._draw()

    def _keep_what_was_found(self, words: str) -> None:
        """Go on among it: keys are commands again, and mean what was found."""
        self._look_for(words)
        self.query_one("#filter", Input).display = bool(self._words)
        self.screen.set_focus(self._jobs)

    def action_logs(self) -> None:
        """Show the logs of the job."""
        job = self._job()
        if job is not None:
            ranks = [row["rank"] for row in job["rank_metrics"]]
            self.push_screen(LogsScreen(job["job"], self._inventory, ranks, look.waits(job)))

    def action_stop(self) -> None:
        """Ask, then stop the job."""
        job = self._job()
        if job is None:
            return
        if job["status"] in ENDED:
            self._tell(f"job {job['job']} has ended already ({job['status']})")
            return

        def answered(answer: str | None) -> None:
            if answer:
                self.run_worker(self._stop(job["job"], force=answer == "kill"), group=f"stop {job['job']}")

        self.push_screen(StopScreen(job["job"], harmless(job["user"])), answered)

    async def _stop(self, job: str, *, force: bool) -> None:
        self._tell(f"stopping {job} …")
        code, said = await verb.run(verb.command(self._inventory, "stop", job, *(["--force"] if force else [])))
        self._tell(said or f"job {job} was stopped", "error" if code else "information")
        self._poller.refresh()

    def _tell(self, text: str, severity: str = "information") -> None:
        self.notify(harmless(text), severity=severity, markup=False, timeout=8)  # type: ignore[arg-type]
