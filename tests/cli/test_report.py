import webbrowser

import pytest

from flowgen.cli import main
from run_folders import Page, whole_run


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole_run(tmp_path / "runs" / "digits")
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").touch()
    return tmp_path


def test_the_report_is_written_into_the_run_folder(place, capsys):
    assert main(["report", "runs/digits"]) == 0
    assert capsys.readouterr().out == "written: runs/digits/report.html\n"
    assert "<h1>digits</h1>" in (place / "runs" / "digits" / "report.html").read_text()


@pytest.mark.parametrize("words", [["--out", "new/a.html"], ["--out=new/a.html"]])
def test_or_elsewhere_and_shown(place, words, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    assert main(["report", *words, "runs/digits", "--open"]) == 0
    assert (place / "new" / "a.html").is_file()
    assert opened == [(place / "new" / "a.html").as_uri()]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "takes one run folder"),
        (["runs/digits", "empty"], "takes one run folder"),
        (["nowhere"], "no run at 'nowhere'"),
        (["empty"], "'empty' is not a run folder"),
        (["file"], "'file' is not a run folder"),
        (["runs/digits", "--oepn"], "has no option '--oepn'; options: --out, --open"),
        (["runs/digits", "--out"], "--out needs a file that ends in .html, got ''"),
        (["runs/digits", "--out=a.pdf"], "--out needs a file that ends in .html, got 'a.pdf'"),
        (["runs/digits", "--out", "folder.html"], "is a folder"),
        (["runs/digits", "--out", "file/a.html"], "cannot write the report"),
    ],
)
def test_bad_input_is_one_line_and_code_2(place, words, message, capsys):
    before = sorted(place.rglob("*"))
    assert main(["report", *words]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1
    assert message in told.err
    assert sorted(place.rglob("*")) == before


TRAIN = ["train", "experiment=moons", "trainer.max_steps=3", "trainer=cpu", "run_dir=new"]


def test_the_last_page_of_a_run_says_that_it_finished(place):
    assert main(TRAIN) == 0
    page = Page((place / "new" / "report.html").read_text(encoding="utf-8"))
    assert "Finished" in page.text
    assert "step 3 of 3" in page.text
    assert "flowgen train resume=new trainer.max_steps=6" in page.texts


def test_the_last_page_of_a_run_says_why_it_failed(place, monkeypatch):
    def fail(*args):
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr("flowgen.training.FlowModule.training_step", fail)
    assert main(TRAIN) == 1
    page = Page((place / "new" / "report.html").read_text(encoding="utf-8"))
    assert "Failed" in page.text
    assert "Ended: the disk is on fire" in page.text


def test_help(capsys):
    assert main(["help", "report"]) == 0
    assert "flowgen report my_run --open" in capsys.readouterr().out
