# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Writes the reference pages of docs/ from the code: `make docs`. Nobody edits those pages by hand.

python -m docs.generate            write what is stale
python -m docs.generate --check    only say what is stale; exit code 1 if anything is
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import yaml

from docs.markdown import cell, default, lines, markup, page, table

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


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
        table(("verb", "what it does"), ([f"[`{verb}`](#ugro-{verb})", text] for verb, (_, text) in VERBS.items())),
    ]
    for words, command, context in commands(cli, top):
        usage = " ".join([words, *command.collect_usage_pieces(context)])
        parts += [f"## {words}\n", f"```\n{usage}\n```\n", _help(command), _options(command, context)]
    return page(parts)


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
    rows = [[cell(f"`{option}`"), cell(text)] for option, text in filter(None, records)]
    return table(("option", "meaning"), rows) if rows else ""


# -- modules -------------------------------------------------------------------------------------------------


def modules_page() -> str:
    """Return docs/modules.md: every module with its options and return values, as ansible-doc understands them."""
    names = sorted(f"ugro.cluster.{path.stem}" for path in (ROOT / "plugins" / "modules").glob("*.py"))
    documented = _ansible_doc("module", names)
    parts = [
        "# Modules\n",
        "What the roles are made of; each also works alone. `ansible-doc ugro.cluster.NAME` shows the same.\n",
        table(("module", "what it does"), ([_link(name), _short(documented[name])] for name in names)),
    ]
    for name in names:
        parts += list(_module(name, documented[name]))
    return page(parts)


def _link(name: str) -> str:
    return f"[`{name}`](#{name.replace('.', '')})"


def _short(documented: Mapping[str, Any]) -> str:
    return markup(documented["doc"]["short_description"]) + "."


def _module(name: str, documented: Mapping[str, Any]) -> Iterator[str]:
    doc = documented["doc"]
    yield f"## {name}\n"
    yield "\n\n".join(markup(line) for line in lines(doc["description"])) + "\n"
    if doc.get("options"):
        yield table(("option", "type", "default", "meaning"), _option_rows(doc["options"]))
    for note in doc.get("notes") or ():
        yield f"- {markup(note)}"
    yield ""
    yield f"```yaml\n{documented['examples'].strip()}\n```\n"
    yield table(("returns", "type", "meaning"), _return_rows(documented["return"] or {}))


def _option_rows(options: Mapping[str, Any], above: str = "") -> Iterator[list[str]]:
    for key, option in options.items():
        kind = option["type"] + (f" of {option['elements']}" if option.get("elements") else "")
        preset = "**required**" if option.get("required") else default(option.get("default"))
        meaning = " ".join(markup(line) for line in lines(option["description"]))
        if option.get("choices"):
            meaning += f" One of {', '.join(f'`{choice}`' for choice in option['choices'])}."
        yield [f"`{above}{key}`", kind, preset, cell(meaning)]
        yield from _option_rows(option.get("suboptions") or {}, f"{above}{key}.")


def _return_rows(values: Mapping[str, Any], above: str = "") -> Iterator[list[str]]:
    for key, value in values.items():
        meaning = " ".join(markup(line) for line in lines(value["description"]))
        yield [f"`{above}{key}`", value.get("type", ""), cell(meaning)]
        yield from _return_rows(value.get("contains") or {}, f"{above}{key}.")


def _ansible_doc(kind: str, names: list[str]) -> dict[str, Any]:
    program = Path(sys.executable).with_name("ansible-doc")
    env = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".dev")}
    done = subprocess.run(
        [str(program), "-t", kind, "--json", *names], env=env, cwd=ROOT, capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


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
            text = "\n\n".join(markup(line) for line in lines(spec.get("description", spec["short_description"])))
            parts += [f"## Role {title}\n", f"{text} [README](../roles/{role}/README.md)\n"]
            if spec.get("options"):
                parts.append(table(("variable", "type", "default", "meaning"), _option_rows(spec["options"])))
    return page(parts)


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


# -- the code ---------------------------------------------------------------------------------------------


def code_map_page() -> str:
    """Return docs/code-map.md: what each file is for, from the first line of its docstring."""
    parts = [
        "# Where things are\n",
        "What each file says of itself. How they work together: [architecture.md](architecture.md).\n",
    ]
    for folder, title in _FOLDERS.items():
        parts.append(f"## {folder}\n\n{title}\n")
        parts.append(table(("file", "what it is for"), _summaries(ROOT / folder)))
    return page(parts)


def _summaries(folder: Path) -> Iterator[list[str]]:
    for path in sorted(folder.glob("*.py")):
        first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n\n")[0]
        if path.name != "__init__.py" and first:
            yield [f"[`{path.name}`](../{path.relative_to(ROOT)})", cell(first)]


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
        [
            str(kind.exit_code),
            f"`{kind.__name__}`",
            cell((inspect.getdoc(kind) or "").partition("\n\n")[0]),
        ]
        if kind is not errors.UgroError
        else ["1", "`UgroError`", "Something else was expected to be possible and failed; the line says what."]
        for kind in found
    ]
    rows.append(["130", "", "Interrupted by Ctrl-C, or a question was answered with no; nothing was left half-made."])
    return page(
        [
            "# Exit codes\n",
            "Whatever goes wrong, `ugro` prints one line on standard error (what was tried, what came back, what to do "
            "next) and ends with one of these codes. Scripts can rely on them.\n",
            table(("code", "error", "meaning"), rows),
            "`ansible-playbook` has codes of its own: 2 when a host failed, 4 when one was unreachable.\n",
        ]
    )


# Folder -> what its files have in common.
_FOLDERS = {
    "ugro_py": "The controller: decides, talks to nodes, keeps the state.",
    "ugro_py/state": "The state store, on SQLite or PostgreSQL.",
    "ugro_py/inventory": "The inventory.",
    "ugro_py/request": "What a launch asks for.",
    "ugro_py/queue": "The queue: who starts next and why the others wait.",
    "ugro_py/recovery": "How a job that failed goes on.",
    "ugro_py/agent": "The process that keeps the cluster running.",
    "ugro_py/health": "Looking at the nodes.",
    "ugro_py/explain": "Why a job failed, waits or stands still.",
    "ugro_py/alerts": "Who is told of what.",
    "ugro_py/series": "The numbers of a job, as columns.",
    "ugro_py/results": "What a job achieved.",
    "ugro_py/experiments": "Every job as an experiment: lists, comparisons, notes.",
    "ugro_py/reports": "Tables, files and pictures of experiments.",
    "ugro_py/stragglers": "Whom the others wait for.",
    "ugro_py/worth": "A step with and without each node.",
    "ugro_py/loki": "Logs to Loki.",
    "ugro_py/api": "The agent's HTTP API.",
    "ugro_py/web": "The dashboard.",
    "ugro_py/web/pages": "Its pages.",
    "ugro_py/top": "`ugro top`, and what it shares with the live view of a launch.",
    "plugins/module_utils": "What runs on nodes: standard library only, Python 3.9 or newer.",
    "plugins/action": "The controller's side of modules, in playbooks.",
    "train": "The training that UGRO ships; copied to the nodes like any script.",
    "tests/lab": "Real systemd hosts on one machine.",
}

PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "code-map.md": code_map_page,
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
