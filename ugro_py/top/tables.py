"""A table of `ugro top` whose rows change in place: what is chosen stays chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text
from textual.widgets import DataTable

from ugro_py.top import look


class LiveTable(DataTable[Text]):
    """Rows by a key and columns by their title, set anew at each round.

    Args:
        needs: column -> how wide the terminal must be for it, in columns; one that is not named is always there.
        id: of the widget.
    """

    def __init__(self, needs: Mapping[str, int], id: str) -> None:
        super().__init__(cursor_type="row", zebra_stripes=False, id=id)
        self._needs = needs
        self._shown: tuple[str, ...] = ()
        self._keys: list[str] = []

    def show(self, rows: Mapping[str, Mapping[str, Text]], columns: Sequence[str], prefer: str | None = None) -> None:
        """Show these rows, as many of the columns as there is room for.

        Args:
            rows: cells by their column, by the key of their row.
            columns: in this order.
            prefer: the row to choose where the one that was chosen is not there (any more).
        """
        width = self.app.size.width - (self.scrollbar_size_vertical if self.show_vertical_scrollbar else 0)
        wanted = look.fitting(rows.values(), columns, self._needs, width)
        chosen = self.chosen
        # Given, not left to the table: it measures when it has nothing else to do, and were it drawn before that, it
        # would go on showing columns as narrow as their titles, from its cache.
        widths = {column: max([len(column), *(cells[column].cell_len for cells in rows.values())]) for column in wanted}
        if wanted != self._shown:
            self.clear(columns=True)
            for column in wanted:
                self.add_column(Text(column), key=column, width=widths[column])
            self._shown, self._keys = wanted, []
        for place in self.ordered_columns:  # where one changes a cell does, or a row, and all of it is drawn anew
            place.width = widths[str(place.key.value)]
        if list(rows) != self._keys:
            self.clear()
            for key, cells in rows.items():
                self.add_row(*(cells[column] for column in wanted), key=key)
            self._keys = list(rows)
            kept = chosen if chosen in rows else prefer
            if kept is not None and kept in rows:
                self.move_cursor(row=self._keys.index(kept), animate=False)
            return
        for key, cells in rows.items():
            for column in wanted:
                if self.get_cell(key, column) != cells[column]:
                    self.update_cell(key, column, cells[column], update_width=True)

    @property
    def chosen(self) -> str | None:
        """The key of the row under the cursor."""
        return self._keys[self.cursor_row] if 0 <= self.cursor_row < len(self._keys) else None
