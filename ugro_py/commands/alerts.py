"""`ugro alerts`: what people were told of, and whether the ways to tell them work."""

from __future__ import annotations

import click


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List alerts, and test the addresses they go to."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(ls, as_json=as_json)


@command.command()
@click.option("--all", "everything", is_flag=True, help="Also those that are over.")
@click.option("-n", "limit", type=click.IntRange(min=1), default=100, metavar="N", help="At most N [default: 100].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ls(everything: bool = False, limit: int = 100, as_json: bool = False) -> None:
    """List the alerts that last, newest first; with --all also those that are over."""
    import json

    from ugro_py.api.client import connect

    client = connect(reading=True)
    if client is not None:
        answer = client.get("/v1/alerts", all=everything, limit=limit)
        click.echo(json.dumps(answer["alerts"], indent=2) if as_json else "\n".join(answer["lines"]))
        return
    from ugro_py.alerts.report import as_values, lines
    from ugro_py.state import Store

    with Store.open() as store:
        rows = [row for row in store.alerts(limit=limit if everything else 10_000) if everything or not row.resolved_at]
    rows = rows[:limit]
    click.echo(json.dumps([as_values(row) for row in rows], indent=2) if as_json else "\n".join(lines(rows)))


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def test(inventory: str | None, as_json: bool) -> None:
    """Send a test notice to every address of `ugro_alerts` and say which took it. Exits with 1 if one did not."""
    import json

    from ugro_py.alerts.report import send_test
    from ugro_py.errors import UgroError
    from ugro_py.inventory import load_cluster

    results = send_test(load_cluster(inventory))
    if as_json:
        click.echo(json.dumps([{"target": shown, "sent": not why, "error": why} for shown, why in results], indent=2))
    else:
        for shown, why in results:
            click.echo(f"{shown}: {why or 'sent'}")
    failed = sum(bool(why) for _shown, why in results)
    if failed:
        raise UgroError(
            "send a test notice", f"{failed} of {len(results)} addresses did not take it",
            "correct ugro_alerts in the inventory",
        )  # fmt: skip
