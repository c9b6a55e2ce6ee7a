"""The whole page: one file that asks the network for nothing and runs no script but its own.

A content security policy inside the page forbids every request and every script other than the one
whose hash it names, so even text that slipped through as markup could do nothing.
"""

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.resources import files

from flowgen.report.commands import commands_section
from flowgen.report.evaluation import evaluation_section
from flowgen.report.formats import clock
from flowgen.report.html import Markup, element
from flowgen.report.overview import Progress, overview, progress
from flowgen.report.run_files import Run
from flowgen.report.samples import samples_section
from flowgen.report.settings import settings_section
from flowgen.report.training import training_section

REFRESH = 30
"""Seconds after which an open page of a running run looks for news."""


def render(run: Run, *, now: datetime | None = None) -> str:
    """Return the page of a run as HTML; the same run at the same moment gives the same text.

    Args:
        run: As :func:`flowgen.report.read_run` returns it.
        now: Moment with zone that is shown as the last update; None takes the clock.
    """
    now = now or datetime.now(timezone.utc)
    state = progress(run, now)
    parts = {
        "Samples": samples_section(run),
        "Training": training_section(run),
        "Evaluation": evaluation_section(run),
        "Commands": commands_section(run),
        "Config": settings_section(run),
    }
    shown = {title: part for title, part in parts.items() if part is not None}
    style, script = _asset("page.css"), _asset("page.js")
    head = element(
        "head",
        {},
        element("meta", {"charset": "utf-8"}),
        element("meta", {"http-equiv": "Content-Security-Policy", "content": _policy(script)}),
        element("meta", {"name": "viewport", "content": "width=device-width,initial-scale=1"}),
        element("meta", {"name": "color-scheme", "content": "light dark"}),
        element("meta", {"name": "referrer", "content": "no-referrer"}),
        element("title", {}, f"{run.name} · flowgen report"),
        element("style", {}, style),
    )
    body = element(
        "body",
        {"data-updated": int(now.timestamp()), "data-refresh": _refresh(state)},
        element("a", {"class": "skip", "href": "#main"}, "Skip to the content"),
        element(
            "div",
            {"class": "page"},
            overview(run, state),
            _navigation(list(shown)),
            element("main", {"id": "main"}, *shown.values()),
            _foot(run, now, state),
        ),
        element("div", {"id": "tip", "role": "status", "hidden": True}),
        element("script", {}, script),
    )
    return f"<!doctype html>\n{element('html', {'lang': 'en'}, head, body)}\n"


def _asset(name: str) -> Markup:
    return Markup(files("flowgen.report").joinpath(name).read_text(encoding="utf-8"))


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _refresh(state: Progress) -> int | None:
    return REFRESH if state.status == "running" and state.silent is None else None


def _navigation(titles: Sequence[str]) -> Markup:
    links = [element("a", {"href": f"#{title.lower()}"}, title) for title in titles]
    return element("nav", {"aria-label": "Sections"}, *links)


def _foot(run: Run, now: datetime, state: Progress) -> Markup:
    live = None
    if _refresh(state):
        box = element("input", {"type": "checkbox", "id": "live", "checked": True})
        live = element("label", {"class": "live"}, box, f" look for news every {REFRESH} s")
    version = run.about.get("flowgen")
    by = f" · trained with flowgen {version}" if version else ""
    return element(
        "footer",
        {},
        element("p", {}, "Updated ", element("time", {"id": "updated"}, clock(now)), by),
        element("p", {"class": "path"}, str(run.folder.name)),
        live,
    )
