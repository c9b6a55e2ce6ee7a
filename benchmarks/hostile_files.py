"""Open every file of the hostile corpus and print what it tries and what it is answered.

Memory is limited while it runs, so that a file that asks for gigabytes would fail. Prints Markdown;
``--update`` writes it into ``docs/checkpoints.md`` between the two marks.

    python benchmarks/hostile_files.py --update
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from flowgen import load  # noqa: E402
from flowgen.core import InputError  # noqa: E402
from hostile import CORPUS  # noqa: E402

PAGE = ROOT / "docs" / "checkpoints.md"
START, END = "<!-- hostile files -->", "<!-- end of hostile files -->"
SPARE = 1 << 30


def limit_memory() -> None:
    """Allow this process a gigabyte more than it has, where the system knows such limits."""
    try:
        import resource
    except ImportError:
        return
    pages = Path("/proc/self/statm")
    if pages.exists():
        now = int(pages.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + SPARE, now + SPARE))


def answers() -> list[tuple[str, str, str]]:
    """Return name, what the file tries and what it is answered; raise if one gets through."""
    rows = []
    for case in CORPUS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            path, marker = folder / case.name, folder / "marker"
            case.write(path, marker)
            start = time.perf_counter()
            try:
                load(path)
            except InputError as error:
                answer = str(error).replace(f"{folder}/", "")
            else:
                raise SystemExit(f"{case.name} was loaded")
            seconds = time.perf_counter() - start
            if marker.exists() or "\n" in answer or seconds > 10:
                raise SystemExit(f"{case.name}: ran code, took {seconds:.1f} s or many lines")
        rows.append((case.name, case.tries, answer.removeprefix(case.name).lstrip(": ")))
    return rows


def table(rows: list[tuple[str, str, str]]) -> str:
    lines = ["| file | what it tries | the answer |", "|---|---|---|"]
    lines += [f"| `{name}` | {tries} | {escape(answer)} |" for name, tries, answer in rows]
    return "\n".join(lines)


def escape(text: str) -> str:
    for character in ("\\", "|", "_", "*", "<", "$"):
        text = text.replace(character, f"\\{character}")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", action="store_true", help="write the table into the page")
    update = parser.parse_args().update
    limit_memory()
    start = time.perf_counter()
    rows = answers()
    text = table(rows)
    print(f"{text}\n\n{len(rows)} files refused in {time.perf_counter() - start:.1f} s")
    if update:
        page = PAGE.read_text(encoding="utf-8")
        before, _, rest = page.partition(START)
        _, _, after = rest.partition(END)
        PAGE.write_text(f"{before}{START}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
