"""`ugro users`: roles and quotas of users and groups, and the audit trail."""

from __future__ import annotations

from typing import Any

import click


def _limit(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Read a limit: a number, or `none` for no limit (told from an option that was not given by -1)."""
    if value is None:
        return None
    if value == "none":
        return -1.0
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e9 or (param.name != "gpu_hours_week" and number != int(number)):
        raise click.BadParameter(f"{value!r} is neither a number nor `none`")
    return number


@click.group("users", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Show and set roles and quotas of users and groups, and see who did what; alone as `ugro users ls`."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(ls, as_json=as_json)


@command.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ls(as_json: bool = False) -> None:
    """List users and groups that have a role or quotas; who is not listed is a user without limits."""
    from ugro_py import accounts

    found = accounts.listed()
    if as_json:
        _print_json(found)
        return
    from ugro_py.state.tables import print_accounts

    print_accounts(found)


@command.command("set")
@click.argument("name")
@click.option("--group", is_flag=True, help="NAME is a group, whose limits all its members share.")
@click.option("--role", type=click.Choice(["admin", "user"]), help="An admin may change everything.")
@click.option("--gpus", "max_gpus", callback=_limit, metavar="N|none", help="GPUs at once.")
@click.option("--queued", "max_queued", callback=_limit, metavar="N|none", help="Jobs that have not ended.")
@click.option("--gpu-hours-week", callback=_limit, metavar="H|none", help="GPU hours in any 7 days.")
@click.option("--priority", "max_priority", metavar="P|none", help="Highest priority to ask for [the inventory's].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def set_(
    name: str, group: bool, role: str | None, max_priority: str | None, as_json: bool, **limits: float | None
) -> None:
    """Set the role and quotas of the user NAME; admins only. What is not given stays as it is."""
    from ugro_py import accounts

    values: dict[str, Any] = {} if role is None else {"role": role}
    for key, value in limits.items():
        if value is not None:
            whole = value if key == "gpu_hours_week" else int(value)
            values[key] = None if value < 0 else whole
    if max_priority is not None:
        from ugro_py.request.options import priority

        values["max_priority"] = None if max_priority == "none" else priority(max_priority)
    if not values:
        raise click.UsageError("nothing to set: give --role, --gpus, --queued, --gpu-hours-week or --priority")
    found = accounts.change("group" if group else "user", name, values)
    if as_json:
        _print_json(found)
        return
    from ugro_py.state.tables import print_accounts

    print_accounts([found])


@command.command("log")
@click.option(
    "-n", "limit", type=click.IntRange(1, 10_000), default=50, metavar="N", help="The newest N [default: 50]."
)
@click.option("--user", help="Only what this user asked for.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def log(limit: int, user: str | None, as_json: bool) -> None:
    """Show who asked for what and whether it was done; who is no admin names themselves with --user."""
    from ugro_py import accounts

    found = accounts.asked(limit, user)
    if as_json:
        _print_json(found)
        return
    from ugro_py.state.tables import print_audit

    print_audit(found)


def _print_json(value: object) -> None:
    import json

    click.echo(json.dumps(value, indent=2))
