"""The commands that Hydra does not run: their arguments are plain words, not overrides."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A command with plain arguments.

    Args:
        name: As typed.
        summary: One line for the overview.
        example: A complete command to copy.
        module: Module with ``run(words, config_dir) -> int`` and ``help_text() -> str``; imported
            only when the command is used.
    """

    name: str
    summary: str
    example: str
    module: str


_CONFIG = Command(
    name="config",
    summary="show configs and the choices in them",
    example="flowgen config show path=trig",
    module="flowgen.cli.config_command",
)

_DOCTOR = Command(
    name="doctor",
    summary="look at this machine and say what would go wrong",
    example="flowgen doctor",
    module="flowgen.cli.doctor",
)

_REPORT = Command(
    name="report",
    summary="write the page of a run: samples, curves, figures, config",
    example="flowgen report runs/digits/<time>",
    module="flowgen.cli.report",
)

_REPLAY = Command(
    name="replay",
    summary="repeat the batch that ended a run and show where it broke",
    example="flowgen replay my_run/nonfinite/step_0000120.pt",
    module="flowgen.cli.replay",
)

COMMANDS = {command.name: command for command in (_CONFIG, _DOCTOR, _REPORT, _REPLAY)}
"""Commands by name, in the order of the overview."""
