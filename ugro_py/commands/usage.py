"""`ugro usage`: what users, groups and jobs used of the GPUs."""

from __future__ import annotations

import click


@click.command()
@click.option("--since", default="7d", metavar="AGE|TIME", help="Since when: 24h, 7d, or a time in UTC [default: 7d].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(since: str, as_json: bool) -> None:
    """Show GPU hours by user, group and job, beside the quotas."""
    from ugro_py import accounts

    found = accounts.used(since)
    if as_json:
        import json

        click.echo(json.dumps(found, indent=2))
        return
    from ugro_py.state.tables import print_usage

    print_usage(found)
