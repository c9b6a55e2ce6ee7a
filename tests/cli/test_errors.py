import os
import socket
import sys

import pytest
from hydra.errors import HydraException, InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue
from torch.distributed import DistNetworkError, TCPStore

from flowgen.cli.errors import UsageError, exit_code, message_for
from flowgen.core import InputError


def raising(error):
    def action():
        raise error

    return action


def in_constructor(error):
    """The error that Hydra makes of one that a constructor raised."""
    try:
        try:
            raise error
        except type(error) as cause:
            raise InstantiationException("Error in call\nfull_key: path.schedule") from cause
    except InstantiationException as wrapped:
        return wrapped


def instantiation_error(**node):
    config = OmegaConf.create({"path": {"schedule": node}})
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the error itself is under test
        instantiate(config.path)
    return caught.value


def test_success_is_the_actions_own_code():
    assert exit_code(lambda: 0) == 0


@pytest.mark.parametrize("error", [InputError("a\n  b"), UsageError("a b")])
def test_bad_input_is_its_message_in_one_line(error, capsys):
    assert exit_code(raising(error)) == 2
    assert capsys.readouterr().err == "error: a b\n"


@pytest.mark.parametrize("error", [ValueError("bug"), KeyError("bug"), RuntimeError("bug")])
def test_anything_else_is_a_traceback(error, capsys):
    assert exit_code(raising(error)) == 1
    assert "Traceback" in capsys.readouterr().err


def test_interrupt_also_as_lightning_turns_it_into_an_exit(capsys):
    assert exit_code(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "interrupted\n"

    def shut_down():
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)

    assert exit_code(shut_down) == 130


@pytest.mark.parametrize(("code", "expected"), [(None, 0), (0, 0), (3, 3), ("text", 1)])
def test_exits_keep_their_code(code, expected):
    assert exit_code(raising(SystemExit(code))) == expected


def test_reader_of_the_output_went_away(monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert exit_code(lambda: stdout.write("x" * 10) - 10) == 141


def test_rejected_constructor_argument_names_the_config_key():
    error = in_constructor(InputError("power must be > 0,\n got -1"))
    assert message_for(error) == "path.schedule: power must be > 0, got -1"


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({"_target_": "builtins.int", "_args_": ["x"]}, "path.schedule: invalid literal for int()"),
        ({"_target_": "builtins.dict.fromkeys"}, "path.schedule: fromkeys expected at least 1"),
        ({"_target_": "flowgen.paths.Nope"}, "path.schedule: cannot find flowgen.paths.Nope"),
        ({"_target_": "nowhere.at.All"}, "path.schedule: cannot find nowhere.at.All"),
        ({"_target_": "math.pi"}, "path.schedule: Expected a callable target"),
    ],
)
def test_instantiation_of_a_bad_node_names_the_config_key(node, expected):
    message = message_for(instantiation_error(**node))
    assert message is not None
    assert message.startswith(expected)
    assert "\n" not in message


def test_fault_inside_a_constructor_is_a_fault():
    assert message_for(in_constructor(RuntimeError("a fault"))) is None
    assert message_for(in_constructor(TypeError("unexpected"))) == "path.schedule: unexpected"


def test_input_error_below_another_error_is_found():
    outer = RuntimeError("outer")
    outer.__cause__ = InputError("inner reason")
    assert message_for(in_constructor(outer)) == "path.schedule: inner reason"


def test_causes_in_a_circle_end():
    """Those of an override that Hydra's parser rejects are so."""
    one, other = RuntimeError("one"), RuntimeError("other")
    one.__context__, other.__context__ = other, one
    error = HydraException("cannot be parsed")
    error.__context__ = one
    assert message_for(error) == "cannot be parsed: one"
    itself = HydraException("cannot be parsed")
    inner = RuntimeError("")
    itself.__context__, inner.__context__ = inner, itself
    assert message_for(itself) == "cannot be parsed"


def test_omegaconf_errors_of_a_config_are_bad_input_of_code_are_faults():
    config = OmegaConf.create({"a": {"b": "???", "c": "${nope}"}})
    OmegaConf.set_struct(config, True)
    with pytest.raises(MissingMandatoryValue) as missing:
        _ = config.a.b
    assert message_for(missing.value) == "Missing mandatory value: a.b"
    with pytest.raises(Exception, match="nope") as dangling:
        _ = config.a.c
    assert message_for(dangling.value) == "a.c: Interpolation key 'nope' not found"
    with pytest.raises(AttributeError) as fault:
        _ = config.a.d
    assert message_for(fault.value) is None


def test_processes_that_cannot_meet_are_told_what_to_do():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(DistNetworkError) as caught:
            TCPStore("127.0.0.1", taken.getsockname()[1], is_master=True)
    message = message_for(caught.value)
    assert "address already in use" in message
    assert message.endswith("Set MASTER_PORT to a free port and start again")
    assert "\n" not in message
