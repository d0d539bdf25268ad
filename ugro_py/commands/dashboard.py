"""`ugro dashboard`: the cluster and the experiments in a browser."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port without an agent [default: 8080]; 0: any that is free."
)
@click.option("--no-browser", is_flag=True, help="Print the address only.")
@click.option("--open", "tunnel", is_flag=True, help="With --master: lead its dashboard to this machine over SSH.")
@click.option("--link", is_flag=True, help="Print a one-time link of the agent's dashboard and end.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(inventory: str | None, port: int | None, no_browser: bool, tunnel: bool, link: bool, as_json: bool) -> None:
    """Open the dashboard, and print the address that signs you in, once.

    Where an agent runs, that is its dashboard. Else one is served here until Ctrl-C, over your own store.

    From another machine: `ugro --master USER@HOST dashboard --open`.
    """
    import json

    from ugro_py.api.client import connect
    from ugro_py.errors import UsageError
    from ugro_py.web import opened

    told = _teller(no_browser, as_json)
    if tunnel:
        raise UsageError(
            "--open", "is for a dashboard on another machine", "name it: ugro --master USER@HOST dashboard"
        )
    if link:
        found = opened.link()
        click.echo(json.dumps(found, indent=2) if as_json else found["url"])
        return
    client = connect()
    if client is not None:
        if port is not None:
            raise UsageError("--port", "is for a dashboard without an agent", "the agent has its own: --dashboard")
        told(opened.agents_link(client)["url"])
        return
    from ugro_py.web.alone import serve_alone

    serve_alone(inventory, 8080 if port is None else port, told)


def lead_here(destination: str, before: Sequence[str], options: Mapping[str, Any]) -> None:
    """Lead the dashboard of the master `destination` to this machine until Ctrl-C.

    Args:
        destination: USER@HOST.
        before: what goes before the verb on the master.
        options: of the command, by their names.
    """
    from ugro_py.web.opened import tunnel

    tunnel(destination, before, options["port"] or 0, _teller(options["no_browser"], options["as_json"]))


def _teller(no_browser: bool, as_json: bool) -> Callable[[str], None]:
    def told(url: str) -> None:
        import json

        from ugro_py.web.opened import open_browser

        click.echo(json.dumps({"url": url}) if as_json else f"Dashboard: {url}\nThe link signs you in, once.")
        if not no_browser and not as_json:
            open_browser(url)

    return told
