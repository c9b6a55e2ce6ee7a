"""A verb of the command line and what its help says."""

from dataclasses import dataclass
from typing import NamedTuple


class Example(NamedTuple):
    """A part of a command line and what it does."""

    text: str
    meaning: str


@dataclass(frozen=True)
class Verb:
    """A verb of the command line.

    Args:
        name: As typed, in lower case with hyphens.
        summary: One line for the overview.
        description: A paragraph for the verb's own help.
        command: A complete command to copy.
        overrides: The most used overrides.
        required: Overrides without which the verb cannot start.
        filled_in: Config sections whose missing values the verb fills in from what it loads.
    """

    name: str
    summary: str
    description: str
    command: str
    overrides: tuple[Example, ...]
    required: tuple[str, ...] = ()
    filled_in: tuple[str, ...] = ()

    @property
    def config_name(self) -> str:
        """Name of the primary config: that of the verb with underscores for hyphens."""
        return self.name.replace("-", "_")

    @property
    def module(self) -> str:
        """Name of the module whose ``run(cfg)`` does the work."""
        return f"flowgen.cli.{self.config_name}"
