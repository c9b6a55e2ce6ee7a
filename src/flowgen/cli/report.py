"""``flowgen report``: write the page of a run, without torch."""

import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from flowgen.cli.errors import UsageError
from flowgen.cli.help_text import table
from flowgen.cli.verbs import Example

_EXAMPLES = (
    Example("flowgen report runs/digits/<time>", "write report.html into the run folder"),
    Example("flowgen report my_run --out page.html", "write it elsewhere"),
    Example("flowgen report my_run --open", "and show it in the browser"),
)


def help_text() -> str:
    """Return the text of ``flowgen report --help``."""
    rows = table([(example.text, example.meaning) for example in _EXAMPLES])
    return f"""usage: flowgen report RUN [--out FILE] [--open]

One self-contained page of a run: samples over time, loss, loss along the path, phase times,
evaluations, config, and the commands to go on. A run writes it by itself while it trains; this
command makes it anew, of a finished, a broken-off or a running run.

{rows}
"""


def run(words: Sequence[str], config_dir: Path) -> int:
    """Run ``flowgen report ...`` and return the exit code.

    Raises:
        UsageError: If the words are no run folder and options, or the file cannot be written.
    """
    del config_dir
    rest = list(words)
    out = _take_out(rest)
    show = "--open" in rest
    rest = [word for word in rest if word != "--open"]
    unknown = [word for word in rest if word.startswith("-")]
    if unknown:
        raise UsageError(f"flowgen report has no option '{unknown[0]}'; options: --out, --open")
    if len(rest) != 1:
        raise UsageError("flowgen report takes one run folder: flowgen report runs/<name>/<time>")

    from flowgen.report import is_run, write_report

    folder = Path(rest[0]).expanduser()
    if not folder.exists():
        raise UsageError(f"no run at '{folder}': give a run folder, such as runs/<name>/<time>")
    if not is_run(folder):
        raise UsageError(
            f"'{folder}' is not a run folder: it has no config.yaml, metrics.csv or checkpoints"
        )
    try:
        written = write_report(folder, out)
    except OSError as error:
        raise UsageError(f"cannot write the report: {error.strerror or error}") from error
    sys.stdout.write(f"written: {written}\n")
    if show:
        webbrowser.open(written.resolve().as_uri())
    return 0


def _take_out(words: list[str]) -> Path | None:
    """Take ``--out FILE`` or ``--out=FILE`` from the words and return the file."""
    for i, word in enumerate(words):
        name, sign, value = word.partition("=")
        if name != "--out":
            continue
        if not sign:
            value = words.pop(i + 1) if i + 1 < len(words) else ""
        words.pop(i)
        out = Path(value).expanduser()
        if not value or out.suffix != ".html":
            raise UsageError(f"--out needs a file that ends in .html, got '{value}'")
        if out.is_dir():
            raise UsageError(f"--out={out} is a folder; give a file that ends in .html")
        return out
    return None
