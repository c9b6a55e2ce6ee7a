"""The exact commands that go on from a run: sample, evaluate, resume, run it again."""

import re
import shlex
from collections.abc import Mapping

from flowgen.report.config_text import setting
from flowgen.report.html import Markup, element, section
from flowgen.report.run_files import Run

_PLAIN = re.compile(r"[\w./:~+@%-]+")


def commands(run: Run) -> Mapping[str, str]:
    """Return complete command lines by what they do; paths as the run itself was given them."""
    folder = place(run)
    found = {
        "Draw samples": _line(
            "flowgen", "sample", _set("checkpoint", folder), "num_samples=64", "out=grid.png"
        ),
        "Measure it": _line("flowgen", "evaluate", _set("checkpoint", folder)),
        "Go on training": _line("flowgen", "train", _set("resume", folder), *_longer(run)),
        "Rebuild this page": _line("flowgen", "report", folder),
    }
    if run.bad_batches:
        file = f"{folder}/nonfinite/{run.bad_batches[-1].name}"
        found["Replay the last batch that was not finite"] = _line("flowgen", "replay", file)
    words = run.about.get("command")
    if isinstance(words, list) and words:
        found["The command of this run"] = _line(*(str(word) for word in words))
    return found


def place(run: Run) -> str:
    """Return the run folder as its config names it, if that can be this one, else in full."""
    given = setting(run.config, "run_dir")
    folder = run.folder.resolve()
    if given and folder.as_posix().endswith(f"/{given.strip('/').removeprefix('./')}"):
        return given
    return folder.as_posix()


def commands_section(run: Run) -> Markup:
    """Return the section of commands, each with a button that copies it."""
    blocks = [
        element(
            "div",
            {"class": "command"},
            element("h3", {}, title),
            element(
                "div",
                {"class": "line"},
                element("code", {}, line),
                element(
                    "button",
                    {"type": "button", "class": "copy", "aria-label": f"Copy: {title}"},
                    "Copy",
                ),
            ),
        )
        for title, line in commands(run).items()
    ]
    return section("commands", "Commands", *blocks)


def _longer(run: Run) -> list[str]:
    """Return what a run that has taken all its steps needs to go on."""
    most = run.max_steps
    return [f"trainer.max_steps={2 * most}"] if most and run.step >= most else []


def _set(key: str, value: str) -> str:
    """Return an override; a value that the override grammar would read otherwise is quoted."""
    if _PLAIN.fullmatch(value):
        return f"{key}={value}"
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{key}='{quoted}'"


def _line(*words: str) -> str:
    return " ".join(shlex.quote(word) for word in words)
