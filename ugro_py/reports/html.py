"""A plot as one HTML page with everything in it: data, library and script. It loads nothing, from anywhere."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ugro_py import __version__, paths

if TYPE_CHECKING:
    from ugro_py.reports.plot import Looks, Panel


def page(jobs: Sequence[str], panels: Sequence[Panel], looks: Looks) -> str:
    """Return the page. Names are shown as text, whatever they hold; without JavaScript there is a table of figures."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    from ugro_py.reports.plot import COLOURS

    static = paths.web_static()
    data = {
        "by": looks.by, "xLabel": looks.x_label, "log": looks.log, "colours": COLOURS,
        "panels": [{**asdict(panel), "label": panel.label} for panel in panels],
    }  # fmt: skip
    loader = FileSystemLoader(paths.web_templates())
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template("plot_file.html").render(
        title=", ".join(jobs) if len(jobs) < 6 else f"{len(jobs)} jobs",
        made=f"UGRO {__version__}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        panels=[{"label": panel.label, "rows": [_row(curve) for curve in panel.curves]} for panel in panels],
        # "<" cannot end the element that holds the data; U+2028 is a line end to old scripts.
        data=Markup(json.dumps(data, allow_nan=False).replace("<", "\\u003c")),  # noqa: S704 - escaped for its place
        library=Markup((static / "vendor" / "uPlot.iife.min.js").read_text(encoding="utf-8")),  # noqa: S704 - our own
        library_style=Markup((static / "vendor" / "uPlot.min.css").read_text(encoding="utf-8")),  # noqa: S704 - our own
        script=Markup((static / "js" / "plot_file.js").read_text(encoding="utf-8")),  # noqa: S704 - our own
        style=Markup((static / "plot_file.css").read_text(encoding="utf-8")),  # noqa: S704 - our own
    )  # fmt: skip


def _row(curve: Any) -> dict[str, str]:
    """Return the figures of a curve for the table."""
    lows = [value for value in curve.low if value is not None and math.isfinite(value)] or [curve.first, curve.last]
    highs = [value for value in curve.high if value is not None and math.isfinite(value)] or [curve.first, curve.last]
    figures = {"first": curve.first, "last": curve.last, "least": min(lows), "greatest": max(highs)}
    return {"name": curve.name, **{name: f"{value:.6g}" for name, value in figures.items()}}
