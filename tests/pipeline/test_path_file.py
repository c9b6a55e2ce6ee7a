"""A fitted path as a file: the same numbers out as in, and one line for any other file."""

import json
import math

import pytest
import torch

from flowgen.core import InputError
from flowgen.paths import Linear, Tabulated, Trig, kinetic_optimal
from flowgen.pipeline import kinetic_schedule, save_schedule, schedule_config
from flowgen.pipeline.build import build
from flowgen.pipeline.path_file import _checksum
from kinetic_data import two_point_error, write_table

TIMES = torch.linspace(0, 1, 23, dtype=torch.float64)


def same(one, other):
    a, b = one(TIMES), other(TIMES)
    return all(
        torch.equal(getattr(a, name), getattr(b, name))
        for name in ("alpha", "sigma", "d_alpha", "d_sigma")
    )


def changed(file, **changes):
    """Change the content of a file, with a checksum that fits."""
    content = json.loads(file.read_text()) | changes
    content.pop("checksum")
    file.write_text(json.dumps(content | {"checksum": _checksum(content)}))


def test_number_by_number_there_and_back(tmp_path):
    schedule = kinetic_optimal(two_point_error(1, size=2.0), rho=4.0, num_nodes=33)
    save_schedule(schedule, tmp_path / "a.json", {"protocol": {"seed": 3}})
    assert same(kinetic_schedule(str(tmp_path / "a.json")), schedule)
    config = schedule_config(tmp_path / "a.json")
    assert same(build(config), schedule)  # as a checkpoint builds it
    assert same(build(json.loads(json.dumps(config))), schedule)
    assert json.loads((tmp_path / "a.json").read_text())["protocol"] == {"seed": 3}


def test_a_table_on_other_angles(tmp_path):
    theta = torch.tensor([0.0, 0.3, 1.0, math.pi / 2], dtype=torch.float64)
    schedule = Tabulated(theta, theta / 2, scale=3.0)
    save_schedule(schedule, tmp_path / "a.json", {})
    assert same(kinetic_schedule(str(tmp_path / "a.json")), schedule)


def test_data_like_a_gaussian_give_trig(tmp_path):
    save_schedule(Trig(), tmp_path / "a.json", {})
    assert isinstance(kinetic_schedule(str(tmp_path / "a.json")), Trig)
    assert isinstance(build(schedule_config(tmp_path / "a.json")), Trig)


def test_other_schedules_are_not_fitted_paths(tmp_path):
    with pytest.raises(InputError, match="a table or trig, got Linear"):
        save_schedule(Linear(), tmp_path / "a.json", {})
    assert list(tmp_path.iterdir()) == []


def test_every_changed_digit_is_found(tmp_path):
    file = write_table(tmp_path / "a.json")
    text = file.read_text()
    place = text.index("0.", text.index("psi") + 20) + 3
    digit = str((int(text[place]) + 1) % 10)
    file.write_text(text[:place] + digit + text[place + 1 :])
    with pytest.raises(InputError, match="fails its checksum"):
        kinetic_schedule(str(file))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("[1, 2", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[]", "is no fitted path"),
        ('{"kind": "else"}', "is no fitted path"),
        (" " * (1 << 23), "is no fitted path"),
    ],
)
def test_other_files_are_refused(text, message, tmp_path):
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        kinetic_schedule(str(file))


def test_no_file(tmp_path):
    with pytest.raises(InputError, match=r"no file at .*give a file of flowgen fit-path"):
        kinetic_schedule(str(tmp_path / "none.json"))
    with pytest.raises(InputError, match="cannot be read"):
        kinetic_schedule(str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "of format 2"),
        ({"schedule": [1]}, "holds no table"),
        ({"schedule": {"psi": [0.0, 2.0, 1.0], "scale": 1.0}}, "rise strictly"),
        ({"schedule": {"psi": [0.0, 0.5, 0.1], "scale": 1.0}}, "rise strictly"),
        ({"schedule": {"psi": [0.0, 0.5, 1.0], "scale": -1.0}}, "scale"),
        ({"schedule": {"psi": "abc", "scale": 1.0}}, "psi"),
        ({"schedule": {"psi": [0.0, math.nan, 1.0], "scale": 1.0}}, "rise strictly"),
        ({"schedule": {"psi": [0.0, 1.0], "scale": 1.0}}, "at least 3"),
        ({"schedule": {"psi": [0.0, 0.5, 1.0], "file": "/etc/passwd"}}, "file"),
        ({"schedule": {"_target_": "os.system", "psi": [0.0, 0.5]}}, "at least 3"),
    ],
)
def test_tables_that_are_none_are_refused(changes, message, tmp_path):
    file = write_table(tmp_path / "a.json")
    changed(file, **changes)
    with pytest.raises(InputError, match=message):
        kinetic_schedule(str(file))
