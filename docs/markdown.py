# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Pieces of a Markdown page: tables, cells, Ansible's markup."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

_NOTE = "<!-- Written by `make docs`; edit the code, not this page. -->\n"
_BLANK = re.compile(r"\n{3,}")


def markup(text: str) -> str:
    """Turn Ansible's semantic markup into Markdown."""
    text = re.sub(r"[CVOE]\(([^)]*)\)|RV\(([^)]*)\)", lambda match: f"`{match[1] or match[2]}`", text)
    text = re.sub(r"[MP]\(([^)#]*)[^)]*\)", r"`\1`", text)
    text = re.sub(r"[BI]\(([^)]*)\)", r"*\1*", text)
    return re.sub(r"L\(([^,)]*),\s*([^)]*)\)", r"[\1](\2)", text)


def lines(text: str | list[str]) -> list[str]:
    """Return the paragraphs of a description, which may be one."""
    return [text] if isinstance(text, str) else list(text)


def default(data: Any) -> str:
    """Return a default as code; nothing where there is none."""
    if data is None or data in ("", [], {}):
        return ""
    return f"`{data if isinstance(data, str) else json.dumps(data)}`".replace("|", "\\|")


def cell(text: str) -> str:
    """Return text that a table cell shows as it is; within backticks only `|` needs care."""
    pieces = text.replace("|", "\\|").split("`")
    pieces[::2] = [piece.replace("<", "&lt;") for piece in pieces[::2]]
    return " ".join("`".join(pieces).split())


def table(head: Iterable[str], rows: Iterable[list[str]]) -> str:
    """Return a table with these column heads."""
    names = list(head)
    drawn = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in drawn) + "\n"


def page(parts: Iterable[str]) -> str:
    """Return a whole page: its title, the note that it is generated, and the rest."""
    title, *rest = parts
    return _BLANK.sub("\n\n", "\n".join([title, _NOTE, *rest])).rstrip() + "\n"
