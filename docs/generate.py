# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Writes the reference pages of docs/ from the code: `make docs`. Nobody edits those pages by hand.

python -m docs.generate            write what is stale
python -m docs.generate --check    only say what is stale; exit code 1 if anything is
"""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
_NOTE = "<!-- Written by `make docs`; edit the code, not this page. -->\n"
_BLANK = re.compile(r"\n{3,}")


# -- the command line ----------------------------------------------------------------------------------------


def commands(group: click.Group, context: click.Context) -> Iterator[tuple[str, click.Command, click.Context]]:
    """Yield every command below `group` as (its words, the command, its context), groups before their members."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        inner = click.Context(command, parent=context, info_name=name)
        yield inner.command_path, command, inner
        if isinstance(command, click.Group):
            yield from commands(command, inner)


def cli_page() -> str:
    """Return docs/cli.md: every verb with its options, from the Click tree."""
    from ugro_py.cli import VERBS, cli

    top = click.Context(cli, info_name="ugro", **cli.context_settings)
    parts = [
        "# The command line\n",
        f"{cli.help}\n",
        "Every verb takes `-h`. Exit codes: [exit-codes.md](exit-codes.md). Names work wherever a JOB is asked for.\n",
        _options(cli, top),
        _table(("verb", "what it does"), ([f"[`{verb}`](#ugro-{verb})", text] for verb, (_, text) in VERBS.items())),
    ]
    for words, command, context in commands(cli, top):
        usage = " ".join([words, *command.collect_usage_pieces(context)])
        parts += [f"## {words}\n", f"```\n{usage}\n```\n", _help(command), _options(command, context)]
    return _page(parts)


def _help(command: click.Command) -> str:
    """Return the help text of a command; what Click must not re-wrap (after a `\\b`) stays as it is."""
    blocks = inspect.cleandoc(command.help or "").split("\n\n")
    shown = []
    for block in blocks:
        fixed = block.startswith("\b")
        shown.append("```\n" + block.lstrip("\b\n") + "\n```" if fixed else " ".join(block.split()))
    return "\n\n".join(shown) + "\n"


def _options(command: click.Command, context: click.Context) -> str:
    records = [param.get_help_record(context) for param in command.params if isinstance(param, click.Option)]
    rows = [[_cell(f"`{option}`"), _cell(text)] for option, text in filter(None, records)]
    return _table(("option", "meaning"), rows) if rows else ""


# -- modules -------------------------------------------------------------------------------------------------


def modules_page() -> str:
    """Return docs/modules.md: every module with its options and return values, as ansible-doc understands them."""
    names = sorted(f"ugro.cluster.{path.stem}" for path in (ROOT / "plugins" / "modules").glob("*.py"))
    documented = _ansible_doc("module", names)
    parts = [
        "# Modules\n",
        "What the roles are made of; each also works alone. `ansible-doc ugro.cluster.NAME` shows the same.\n",
        _table(("module", "what it does"), ([_link(name), _short(documented[name])] for name in names)),
    ]
    for name in names:
        parts += list(_module(name, documented[name]))
    return _page(parts)


def _link(name: str) -> str:
    return f"[`{name}`](#{name.replace('.', '')})"


def _short(documented: Mapping[str, Any]) -> str:
    return _markup(documented["doc"]["short_description"]) + "."


def _module(name: str, documented: Mapping[str, Any]) -> Iterator[str]:
    doc = documented["doc"]
    yield f"## {name}\n"
    yield "\n\n".join(_markup(line) for line in _lines(doc["description"])) + "\n"
    if doc.get("options"):
        yield _table(("option", "type", "default", "meaning"), _option_rows(doc["options"]))
    for note in doc.get("notes") or ():
        yield f"- {_markup(note)}"
    yield ""
    yield f"```yaml\n{documented['examples'].strip()}\n```\n"
    yield _table(("returns", "type", "meaning"), _return_rows(documented["return"] or {}))


def _option_rows(options: Mapping[str, Any], above: str = "") -> Iterator[list[str]]:
    for key, option in options.items():
        kind = option["type"] + (f" of {option['elements']}" if option.get("elements") else "")
        default = "**required**" if option.get("required") else _value(option.get("default"))
        meaning = " ".join(_markup(line) for line in _lines(option["description"]))
        if option.get("choices"):
            meaning += f" One of {', '.join(f'`{choice}`' for choice in option['choices'])}."
        yield [f"`{above}{key}`", kind, default, _cell(meaning)]
        yield from _option_rows(option.get("suboptions") or {}, f"{above}{key}.")


def _return_rows(values: Mapping[str, Any], above: str = "") -> Iterator[list[str]]:
    for key, value in values.items():
        meaning = " ".join(_markup(line) for line in _lines(value["description"]))
        yield [f"`{above}{key}`", value.get("type", ""), _cell(meaning)]
        yield from _return_rows(value.get("contains") or {}, f"{above}{key}.")


# -- playbooks and roles -------------------------------------------------------------------------------------


def playbooks_page() -> str:
    """Return docs/playbooks.md: every playbook with the comment at its head, every role with its variables."""
    playbooks = sorted((ROOT / "playbooks").glob("*.yml"))
    roles = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
    parts = [
        "# Playbooks and roles\n",
        "Each playbook runs by path in the checkout (`ansible-playbook playbooks/verify.yml`, `ansible.cfg` knows the "
        "rest) and by name where UGRO is installed (`ansible-playbook ugro.cluster.verify -i INVENTORY`).\n",
    ]
    for path in playbooks:
        parts += [f"## ugro.cluster.{path.stem}\n", _head_comment(path)]
    parts.append("# Roles\n")
    for role in roles:
        specs = yaml.safe_load((ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
        for entry, spec in specs["argument_specs"].items():
            title = f"ugro.cluster.{role}" + ("" if entry == "main" else f" ({entry})")
            text = "\n\n".join(_markup(line) for line in _lines(spec.get("description", spec["short_description"])))
            parts += [f"## Role {title}\n", f"{text} [README](../roles/{role}/README.md)\n"]
            if spec.get("options"):
                parts.append(_table(("variable", "type", "default", "meaning"), _option_rows(spec["options"])))
    return _page(parts)


def _head_comment(path: Path) -> str:
    """Return the comment at the head of a playbook: its prose, and indented lines as code."""
    shown: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            shown.append(line.removeprefix("#").removeprefix(" "))
        elif line != "---":
            break
    # A command stands in lines of its own, indented, or at the end of the sentence it belongs to.
    text = re.sub(r" {2,}(ansible-playbook .*)$", r"\n\n    \1", "\n".join(shown), flags=re.M)
    return text.strip("\n") + "\n"


# -- exit codes ----------------------------------------------------------------------------------------------


def exit_codes_page() -> str:
    """Return docs/exit-codes.md from the exceptions of `ugro_py.errors`."""
    from ugro_py import errors

    found = sorted(
        {
            kind
            for kind in vars(errors).values()
            if isinstance(kind, type) and issubclass(kind, errors.UgroError) and kind.__module__ == errors.__name__
        },
        key=lambda kind: kind.exit_code,
    )
    rows = [["0", "", "It worked. `launch`: the job completed, was detached or was a dry run."]]
    rows += [
        [str(kind.exit_code), f"`{kind.__name__}`", _cell(" ".join(inspect.getdoc(kind).split("\n\n")[0].split()))]
        if kind is not errors.UgroError
        else ["1", "`UgroError`", "Something else was expected to be possible and failed; the line says what."]
        for kind in found
    ]
    rows.append(["130", "", "Interrupted by Ctrl-C, or a question was answered with no; nothing was left half-made."])
    return _page(
        [
            "# Exit codes\n",
            "Whatever goes wrong, `ugro` prints one line on standard error (what was tried, what came back, what to do "
            "next) and ends with one of these codes. Scripts can rely on them.\n",
            _table(("code", "error", "meaning"), rows),
            "`ansible-playbook` has codes of its own: 2 when a host failed, 4 when one was unreachable.\n",
        ]
    )


# -- parts of a page -----------------------------------------------------------------------------------------


def _ansible_doc(kind: str, names: list[str]) -> dict[str, Any]:
    program = Path(sys.executable).with_name("ansible-doc")
    env = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".dev")}
    done = subprocess.run(
        [str(program), "-t", kind, "--json", *names], env=env, cwd=ROOT, capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _markup(text: str) -> str:
    """Turn Ansible's semantic markup into Markdown."""
    text = re.sub(r"[CVOE]\(([^)]*)\)|RV\(([^)]*)\)", lambda match: f"`{match[1] or match[2]}`", text)
    text = re.sub(r"[MP]\(([^)#]*)[^)]*\)", r"`\1`", text)
    text = re.sub(r"[BI]\(([^)]*)\)", r"*\1*", text)
    return re.sub(r"L\(([^,)]*),\s*([^)]*)\)", r"[\1](\2)", text)


def _lines(text: str | list[str]) -> list[str]:
    return [text] if isinstance(text, str) else list(text)


def _value(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`".replace("|", "\\|")


def _cell(text: str) -> str:
    """Return text that a table cell shows as it is; within backticks only `|` needs care."""
    pieces = text.replace("|", "\\|").split("`")
    pieces[::2] = [piece.replace("<", "&lt;") for piece in pieces[::2]]
    return " ".join("`".join(pieces).split())


def _table(head: Iterable[str], rows: Iterable[list[str]]) -> str:
    names = list(head)
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _page(parts: Iterable[str]) -> str:
    title, *rest = parts
    return _BLANK.sub("\n\n", "\n".join([title, _NOTE, *rest])).rstrip() + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "exit-codes.md": exit_codes_page,
    "modules.md": modules_page,
    "playbooks.md": playbooks_page,
}


def stale() -> dict[Path, str]:
    """Return the pages whose file is not what the code says, with what they should hold."""
    wanted = {DOCS / name: make() for name, make in PAGES.items()}
    return {path: text for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text}


def main(argv: list[str] | None = None) -> int:
    """Write the stale pages, or with `--check` only name them; return the exit code."""
    check = "--check" in (sys.argv[1:] if argv is None else argv)
    pages = stale()
    for path, text in pages.items():
        click.echo(f"{'stale: ' if check else ''}{path.relative_to(ROOT)}")
        if not check:
            path.write_text(text, encoding="utf-8")
    return 1 if check and pages else 0


if __name__ == "__main__":
    sys.exit(main())
