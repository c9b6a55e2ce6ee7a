import pytest

from run_folders import whole_run


@pytest.fixture
def run_folder(tmp_path):
    """A finished run with everything in it."""
    return whole_run(tmp_path / "runs" / "digits")
