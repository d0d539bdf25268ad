"""`ugro top`: nodes, GPUs and jobs, live."""

from __future__ import annotations

import click


@click.command()
@click.option("--once", is_flag=True, help="Print what there is now, and end.")
@click.option("--json", "as_json", is_flag=True, help="Print what there is now as one JSON object, and end.")
@click.option(
    "--interval", type=click.FloatRange(0.2, 3600), default=1.0, metavar="S",
    help="Seconds between two looks [default: 1].",
)  # fmt: skip
@click.option(
    "--theme", type=click.Choice(["dark", "light"]), help="Colours [default: as the terminal says, else dark]."
)
@click.pass_obj
def command(inventory: str | None, once: bool, as_json: bool, interval: float, theme: str | None) -> None:
    """Show nodes, GPUs and jobs as they change, with the curve of a job; keys for its logs and to stop it."""
    import os
    import sys

    from ugro_py.errors import UsageError
    from ugro_py.top.doors import open_door

    if once or as_json:
        door = open_door(inventory, ask=True)
        try:
            found = door.snapshot()
        finally:
            door.close()
        if as_json:
            import json

            click.echo(json.dumps(found, indent=2))
            return
        from ugro_py.top.once import show

        show(found)
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("a live screen needs a terminal", "", "`ugro top --once` or `--json` print what there is now")
    if os.environ.get("TERM", "") in ("", "dumb", "unknown"):
        what = f"a terminal of type {os.environ.get('TERM') or 'none'!r}"
        raise UsageError(what, "cannot move its cursor", "`ugro top --once` prints what there is now; or set TERM")
    from ugro_py.top.app import TopApp

    # COLORFGBG ends with the number of the background's colour: 7 and 15 are white.
    light = os.environ.get("COLORFGBG", "").rpartition(";")[2] in ("7", "15")
    dark = theme == "dark" if theme else not light
    app = TopApp(lambda: open_door(inventory), inventory, every_s=interval, dark=dark)
    app.run()
    sys.exit(app.return_code)
