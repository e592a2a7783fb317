"""The report as one file that opens anywhere: no request, light or dark as the reader's system is, whole without its script.

Whatever comes from a spec or a model is escaped by the template engine and stripped of characters that cannot be seen. A content security
policy forbids everything but the one script that filters the table of regressed items, which it knows by its digest.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import Any

from quant_action.formats import speed, wording
from quant_action.formats.interface import Format, Report


def render(report: Report) -> str:
    # The template engine and the plotting library take long to load; commands that render nothing need not wait for them.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from quant_action.formats.plots import all_plots

    environment = Environment(
        loader=PackageLoader("quant_action.formats"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_visible,
    )
    script = files("quant_action.formats").joinpath("templates/filter.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html.j2").render(
        report=report,
        plots=all_plots(report),
        wording=wording,
        speed=speed,
        script=script,
        digest=digest,
    )


def _visible(value: Any) -> Any:
    """Applied to every value that the template writes."""
    return wording.clean(value) if type(value) is str else value  # a template's own markup is a subclass


HTML = Format(name="html", file="report.html", render=render)
