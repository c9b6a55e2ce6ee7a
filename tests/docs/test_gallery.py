"""The gallery: every picture of the docs stands there, with a command that exists and names it."""

import re
import shlex

from documents import PAGES, ROOT, name

PAGE = ROOT / "docs" / "gallery.md"
PARTS = re.findall(
    r"^!\[([^\]]+)\]\((images/[\w.]+)\)\n\n```bash\n(.*?)```$", PAGE.read_text(), re.M | re.S
)


def test_every_picture_is_there_and_has_a_command():
    shown = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", PAGE.read_text())
    assert shown == [picture for _, picture, _ in PARTS]
    for _, picture, _ in PARTS:
        head = (PAGE.parent / picture).read_bytes()[:8]
        assert head == b"\x89PNG\r\n\x1a\n", picture


def test_no_picture_of_the_docs_is_missing():
    used = {
        picture.rpartition("/")[2]
        for page in PAGES
        for picture in re.findall(r"!\[[^\]]*\]\(([^)]*images/[^)]+)\)", page.read_text())
    }
    known = {picture.rpartition("/")[2] for _, picture, _ in PARTS}
    assert used == known == {file.name for file in (PAGE.parent / "images").iterdir()}


def test_commands_write_the_picture_and_their_scripts_can_be_read():
    for _, picture, text in PARTS:
        words = [shlex.split(line) for line in text.splitlines()]
        assert picture == "images/report.png" or f"docs/{picture}" in text, picture
        for line in words:
            if line[0] == "python":
                script = ROOT / line[1]
                compile(script.read_text(), name(script), "exec")
            else:
                assert line[0] == "flowgen", line
