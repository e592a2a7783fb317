"""The files that a report is rendered to. To add one: a module with a `Format`, and a place in the table."""

from __future__ import annotations

from quant_action.formats.html import HTML
from quant_action.formats.interface import Format
from quant_action.formats.junit import JUNIT
from quant_action.formats.markdown import MARKDOWN
from quant_action.formats.metrics_json import METRICS_JSON

FORMATS: tuple[Format, ...] = (MARKDOWN, HTML, JUNIT, METRICS_JSON)
