# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A field of `ugro top` where words are typed: what leaves it does so at once, and keys behind that are commands."""

from __future__ import annotations

from collections.abc import Callable

from textual.events import Key
from textual.widgets import Input


class Field(Input):
    """One line to type in, left by Enter or Esc.

    A key goes through the queues of the app and of the widget that has the focus. What was typed quickly behind Enter
    may thus be on its way here when Enter is read: it is given back to the app, and goes where the focus is now.

    Args:
        placeholder: shown while nothing is typed.
        id: of the widget.
        entered: called with what was typed; it moves the focus on, by `screen.set_focus`, not by `focus` (which waits).
        left: called on Esc; likewise.
    """

    def __init__(self, placeholder: str, id: str, entered: Callable[[str], None], left: Callable[[], None]) -> None:
        super().__init__(placeholder=placeholder, id=id)
        self._entered, self._left = entered, left

    def on_key(self, event: Key) -> None:
        """Read Enter and Esc in their turn among the letters; give back what is not for this field."""
        if self.screen.focused is not self:
            self.app.post_message(Key(event.key, event.character))
        elif event.key == "enter":
            self._entered(self.value)
        elif event.key == "escape":
            self._left()
        else:
            return
        event.stop()
        event.prevent_default()
