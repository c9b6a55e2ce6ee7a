"""Samples over time: one picture at a time, a slider through all of them."""

from flowgen.report.formats import number
from flowgen.report.html import Markup, element, section
from flowgen.report.pictures import chosen, picture
from flowgen.report.run_files import Run


def samples_section(run: Run) -> Markup | None:
    """Return the section of sample pictures, None if there are none."""
    steps = chosen(list(run.pictures))
    read = [(step, found) for step in steps if (found := picture(run.pictures[step]))]
    if not read:
        return None
    left_out = len(run.pictures) - len(read)
    newest = len(read) - 1
    frames = [
        element(
            "img",
            {
                "src": made.uri,
                "width": made.width,
                "height": made.height,
                "alt": f"Samples after {number(step)} steps",
                "data-step": step,
                "hidden": i != newest,
                "decoding": "async",
            },
        )
        for i, (step, made) in enumerate(read)
    ]
    wide, high = read[newest][1].width, read[newest][1].height
    caption = f"step {number(read[newest][0])}"
    controls = element(
        "div",
        {"class": "slider", "hidden": len(read) < 2},
        element("button", {"type": "button", "id": "play", "aria-label": "Play"}, "▶"),
        element(
            "input",
            {
                "type": "range",
                "id": "slider",
                "min": 0,
                "max": newest,
                "value": newest,
                "step": 1,
                "aria-label": "Step of the samples",
                "aria-valuetext": caption,
            },
        ),
        element(
            "span",
            {"class": "ends", "aria-hidden": "true"},
            element("b", {}, f"step {number(read[0][0])}"),
            element("b", {}, f"step {number(read[newest][0])}"),
        ),
    )
    note = "Always from the same noise, with the averaged weights."
    if left_out:
        note += f" {number(left_out)} of {number(len(run.pictures))} pictures are not on this page."
    return section(
        "samples",
        "Samples",
        element("p", {"class": "note"}, note),
        element(
            "figure",
            {"class": "samples", "style": f"--wide:{wide}px"},
            element("div", {"class": "frames", "style": f"aspect-ratio:{wide}/{high}"}, *frames),
            element(
                "figcaption", {}, element("output", {"id": "caption", "for": "slider"}, caption)
            ),
            controls,
        ),
    )
