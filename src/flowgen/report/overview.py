"""The head of the page: what this run is, how far it is, and its figures at a glance."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flowgen.report.config_text import setting
from flowgen.report.formats import clock, duration, number
from flowgen.report.html import Markup, element
from flowgen.report.run_files import Run

STATES: Mapping[str, tuple[str, str]] = {
    "running": ("●", "Running"),
    "finished": ("✓", "Finished"),
    "interrupted": ("❙❙", "Interrupted"),
    "stopped": ("❙❙", "Stopped"),
    "failed": ("✕", "Failed"),
}
"""Sign and word of each status."""

SILENT = 600.0
"""Seconds without news after which a running run is said to be silent."""


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Args:
        status: A key of :data:`STATES`, or ``unknown``.
        share: Of the steps, in [0, 1]; None if the number of steps is unknown.
        elapsed: Seconds of training in all sessions, None if unknown.
        left: Seconds to go at the pace of this session, None unless running.
        silent: Seconds since the last news where that is too long for a running run, else None.
    """

    status: str
    share: float | None
    elapsed: float | None
    left: float | None
    silent: float | None


def progress(run: Run, now: datetime) -> Progress:
    """Return how far a run is at a moment."""
    most = run.max_steps
    status = str(run.about.get("status") or "unknown").lower()
    if status not in STATES:
        done = most is not None and run.step >= most
        status = "finished" if done else "unknown"
    running = status == "running"
    elapsed, pace = 0.0, None
    for session in run.sessions:
        end = session.ended or run.last_news
        if session.started is None or end is None:
            continue
        elapsed += max(0.0, (end - session.started).total_seconds())
        steps = run.step - session.from_step
        if session.ended is None and steps > 0 and run.last_row:
            # Until the step that was logged: what came after has not been counted yet.
            pace = max(0.0, (run.last_row - session.started).total_seconds()) / steps
    left = (most - run.step) * pace if running and most and pace is not None else None
    quiet = (now - run.last_news).total_seconds() if running and run.last_news else 0.0
    return Progress(
        status=status,
        share=min(1.0, run.step / most) if most else None,
        elapsed=elapsed if run.sessions else None,
        left=left,
        silent=quiet if quiet > SILENT else None,
    )


def overview(run: Run, state: Progress) -> Markup:
    """Return the head of the page."""
    sign, word = STATES.get(state.status, ("○", "Status not recorded"))
    badge = element(
        "span",
        {"class": f"badge {state.status}"},
        element("i", {"aria-hidden": "true"}, sign),
        f" {word}",
    )
    return element(
        "header",
        {"class": "head"},
        element("p", {"class": "brand"}, "flowgen report"),
        element("div", {"class": "title"}, element("h1", {}, run.name), badge),
        element("p", {"class": "lede"}, _lede(run)),
        _bar(run, state),
        _note(state, run),
        _tiles(run, state),
    )


def _lede(run: Run) -> str:
    words = []
    experiment = run.about.get("experiment")
    if experiment:
        words.append(f"experiment {experiment}")
    started = next((s.started for s in run.sessions if s.started), None)
    if started:
        words.append(f"started {clock(started)}")
    if run.about.get("device"):
        words.append(f"on {run.about['device']}")
    seed = run.about.get("seed", setting(run.config, "seed"))
    if seed is not None:
        words.append(f"seed {seed}")
    return " · ".join(words) or str(run.folder.name)


def _bar(run: Run, state: Progress) -> Markup | None:
    if state.share is None:
        return None
    text = f"step {number(run.step)} of {number(run.max_steps or 0)}"
    percent = f"{100 * state.share:.0f} %"
    return element(
        "div",
        {"class": f"progress {state.status}"},
        element(
            "div",
            {
                "class": "track",
                "role": "progressbar",
                "aria-valuemin": 0,
                "aria-valuemax": run.max_steps,
                "aria-valuenow": min(run.step, run.max_steps or 0),
                "aria-label": text,
            },
            element("i", {"style": f"width:{100 * state.share:.1f}%"}),
        ),
        element("p", {}, element("span", {}, text), element("span", {}, percent)),
    )


def _note(state: Progress, run: Run) -> Markup | None:
    notes = []
    if state.silent is not None:
        notes.append(
            f"No news for {duration(state.silent)}: the run may have been killed. "
            "If it no longer trains, resume it with the command below."
        )
    reason = next((s.reason for s in reversed(run.sessions) if s.reason), "")
    if reason and state.status in ("failed", "interrupted", "stopped"):
        notes.append(f"Ended: {reason}")
    if len(run.bad_batches):
        count = len(run.bad_batches)
        notes.append(
            f"{count} batch{'es' if count > 1 else ''} with a loss or gradient that was not finite "
            "kept for replay."
        )
    if not notes:
        return None
    return element("div", {"class": "notes"}, *(element("p", {}, note) for note in notes))


def _tiles(run: Run, state: Progress) -> Markup:
    tiles = []
    loss = run.metrics.get("loss")
    if loss is not None and len(loss):
        lowest = f"lowest {number(float(loss.values.min()))}"
        tiles.append(("Loss", number(loss.last), "", lowest))
    if state.elapsed is not None:
        if state.left is not None:
            tiles.append(
                ("Time to go", duration(state.left), "", f"{duration(state.elapsed)} so far")
            )
        else:
            count = len(run.sessions)
            sessions = f"in {count} sessions" if count > 1 else "of training"
            tiles.append(("Time", duration(state.elapsed), "", sessions))
    rate = run.metrics.get("samples_per_second")
    if rate is not None and len(rate):
        each = sum(s.last for n, s in run.metrics.items() if n.startswith("ms/") and len(s))
        under = f"{number(each, 3)} ms a step" if each else "samples a second"
        tiles.append(("Throughput", number(rate.last, 3), "/s", under))
    for name, value, floor in _figures(run)[:2]:
        tiles.append((name, number(value, 3), "", f"floor {number(floor, 3)}"))
    skipped = run.metrics.get("skipped")
    if skipped is not None and len(skipped) and skipped.last > 0:
        tiles.append(("Skipped steps", number(skipped.last), "", "loss or gradient not finite"))
    return element(
        "dl",
        {"class": "tiles"},
        *(
            element(
                "div",
                {},
                element("dt", {}, name),
                element("dd", {}, value, element("small", {}, unit) if unit else None),
                element("dd", {"class": "under"}, under or "\u00a0"),
            )
            for name, value, unit, under in tiles
        ),
    )


def _figures(run: Run) -> list[tuple[str, float, float]]:
    """Return the figures that have a floor, of the newest evaluation: those one looks at first."""
    made = [e for e in (*run.evaluations[-1:], *run.final) if e.figures]
    found: list[tuple[str, float, float]] = []
    for values in made[-1].figures.values() if made else ():
        for name, value in values.items():
            floor: Any = values.get(f"{name}_floor")
            if isinstance(value, float) and isinstance(floor, (int, float)):
                found.append((name, value, float(floor)))
    return found


__all__ = ["STATES", "Progress", "overview", "progress"]
