import pytest

from flowgen.core import InputError
from flowgen.report import render, write_report
from run_folders import NOW


def test_the_report_lies_in_the_run_folder(run_folder):
    path = write_report(run_folder, now=NOW)
    assert path == run_folder / "report.html"
    first = path.read_bytes()
    assert write_report(run_folder, now=NOW).read_bytes() == first
    assert first.endswith(b"</html>\n")
    assert path.stat().st_mode & 0o777 == 0o644


def test_elsewhere(run_folder, tmp_path):
    path = write_report(run_folder, tmp_path / "new" / "page.html")
    assert path.is_file()
    assert not (run_folder / "report.html").exists()


def test_a_failed_report_leaves_the_old_one(run_folder, monkeypatch):
    path = write_report(run_folder)
    before = path.read_bytes()

    def fail(*args, **kwargs):
        render(*args, **kwargs)
        raise OSError("disk full")

    monkeypatch.setattr("flowgen.report.writing.render", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(run_folder)
    monkeypatch.setattr("flowgen.report.writing.render", lambda *a, **k: "x\ud800")
    with pytest.raises(UnicodeEncodeError):
        write_report(run_folder)
    assert path.read_bytes() == before
    assert [p.name for p in run_folder.glob(".*")] == []


def test_no_run_is_told(tmp_path):
    with pytest.raises(InputError, match="no run in"):
        write_report(tmp_path)


def test_no_torch_is_needed(run_folder):
    import subprocess
    import sys

    code = f"""
import sys
from flowgen.report import write_report
write_report({str(run_folder)!r})
assert not {{"torch", "lightning", "hydra", "matplotlib"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
