"""Check every override before anything is built, so that a slip costs a line and no waiting.

Order: syntax, names of groups and their choices, names of settings, types of values, required
settings. ``+key=``, ``++key=`` and ``~key`` keep the meaning Hydra gives them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

from flowgen.cli.compose import composed
from flowgen.cli.config_tree import ConfigTree
from flowgen.cli.errors import UsageError
from flowgen.cli.settings import Settings, leaves
from flowgen.cli.suggest import did_you_mean
from flowgen.cli.verbs import PLACEHOLDERS

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override


@dataclass(frozen=True)
class OverrideCheck:
    """Checks the overrides of one primary config.

    Args:
        tree: The config tree.
        config_name: Name of the primary config, which is also the verb's.
        multirun: Whether comma-separated values make a sweep.
        complete: Whether required settings must be there.
        filled_in: Sections whose ``???`` the verb fills in itself.
    """

    tree: ConfigTree
    config_name: str
    multirun: bool = False
    complete: bool = True
    filled_in: tuple[str, ...] = ()

    def __call__(self, overrides: Sequence[str]) -> int:
        """Return the number of jobs that the overrides make.

        Raises:
            UsageError: For the first override that cannot be used, saying what to write.
        """
        groups = self.tree.groups()
        ours = self.tree.groups_of(self.config_name)
        parsed = [self._parse(text, groups) for text in overrides]
        parsed = [each for each in parsed if not each.is_hydra_override()]
        hydra = [text for text in overrides if text.lstrip("+~").startswith("hydra")]
        values: list[Override] = []
        choices: list[list[str]] = []
        for override in parsed:
            if override.is_sweep_override() and not self.multirun:
                raise UsageError(_not_a_sweep(override))
            group = override.key_or_group
            if group in groups:
                if group not in ours and not override.is_add():
                    raise UsageError(
                        f"{group} is no part of '{self.config_name}'. Groups: {', '.join(ours)}"
                    )
                self._check_choice(override, groups[group])
                choices.append(_alternatives(override, groups[group]))
            else:
                values.append(override)
        hydra = [text for text in hydra if "," not in text]
        for combination in product(*choices):
            chosen = [*hydra, *combination]
            with composed(self.tree, self.config_name, chosen) as config:
                settings = Settings(config, self.tree, self.config_name)
                self._check_values(values, settings)
        return prod(
            max(1, len(_values(each, groups.get(each.key_or_group, ())))) for each in parsed
        )

    def _parse(self, text: str, groups: Mapping[str, Sequence[str]]) -> "Override":
        if "=" not in text and not text.startswith("~"):
            owner = next((group for group, names in groups.items() if text in names), None)
            example = f"{owner}={text}" if owner else "trainer.max_steps=100"
            raise UsageError(f"'{text}' is not an override: write key=value, such as {example}")
        override, reason = _read(text)
        if override is None:
            key, _, value = text.partition("=")
            quoted = f'{key}="{value}"'
            readable = '"' not in value and _read(quoted)[0] is not None
            hint = f"; to take the value as it is, write '{quoted}'" if readable else ""
            raise UsageError(f"cannot read '{text}': {reason}{hint}")
        if not override.key_or_group:
            raise UsageError(f"'{text}' has no name before its '=': write key=value")
        return override

    def _check_choice(self, override: "Override", known: Sequence[str]) -> None:
        group = override.key_or_group
        if override.is_delete():
            name = override.value()
            if name is not None and not isinstance(name, str):
                raise UsageError(f"to leave {group} out write ~{group}")
            return
        if (
            override.is_add()
            and override.package is None
            and self.tree.draws(self.config_name, group)
        ):
            line = (override.input_line or "").lstrip("+")
            raise UsageError(f"{group} is there already: write {line}")
        for value in _values(override, known):
            for choice in value if isinstance(value, list) else [value]:
                if choice is None:
                    raise UsageError(f"to leave {group} out write ~{group}")
                name = str(choice).lower() if isinstance(choice, bool) else str(choice)
                if self.tree.file(f"{group}/{name}") or "${" in name:
                    continue
                hint = did_you_mean(name, known)
                raise UsageError(
                    f"{group} has no choice '{name}'{hint or '.'} Choices: {', '.join(known)}"
                )

    def _check_values(self, overrides: Sequence["Override"], settings: Settings) -> None:
        added: list[str] = []
        given: set[str] = set()
        for override in overrides:
            key = override.key_or_group
            if override.package is not None or "/" in key:
                raise UsageError(settings.unknown_group(key))
            given.add(key)
            owner, _, part = key.rpartition(".")
            if override.is_delete() and part.isdigit() and settings.has(owner):
                raise UsageError(f"an entry of a list cannot be left out: write {owner}=[...]")
            if override.is_add() or override.is_force_add():
                if override.is_add() and settings.has(key) and settings.value(key) is not None:
                    line = override.input_line or key
                    raise UsageError(f"'{key}' exists already: write {line.lstrip('+')}")
                added.append(key)
                continue
            if any(f"{key}.".startswith(f"{name}.") for name in added):
                continue
            for value in [None] if override.is_delete() else _values(override):
                for name, item in leaves(key, value):
                    if not settings.has(name):
                        raise UsageError(settings.unknown(name))
                    problem = settings.misfit(name, item)
                    if problem:
                        raise UsageError(problem)
                    given.add(name)
        if self.complete:
            self._check_complete(settings, given)

    def _check_complete(self, settings: Settings, given: set[str]) -> None:
        for key in settings.missing():
            if key in given or key.split(".")[0] in self.filled_in:
                continue
            placeholder = PLACEHOLDERS.get(key, "value")
            raise UsageError(f"{key}=<{placeholder}> is required")


def _read(text: str) -> "tuple[Override | None, str]":
    """The override, or None and why it cannot be read."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    try:
        return OverridesParser.create().parse_overrides([text])[0], ""
    except OverrideParseException as error:
        reason = str(error).splitlines()[0]
        # Hydra's lexer names no reason, only itself and the line again.
        return None, "a character cannot stand there" if reason.startswith("Lexer") else reason


def _values(override: "Override", known: Sequence[str] = ()) -> list[Any]:
    """Every value of an override; ``known`` are the choices that a ``glob`` picks from."""
    from hydra.core.override_parser.types import Glob

    if not override.is_sweep_override():
        return [override.value()]
    sweep: Any = override.value()
    if isinstance(sweep, Glob):
        return list(sweep.filter(list(known)))
    # An interval has no list of values; only the sweeper that samples it can check them.
    if not override.is_discrete_sweep():
        return []
    return [_unquoted(item) for item in override.sweep_iterator()]


def _unquoted(value: Any) -> Any:
    from hydra.core.override_parser.types import QuotedString

    if isinstance(value, list):
        return [_unquoted(item) for item in value]
    return value.text if isinstance(value, QuotedString) else value


def _alternatives(override: "Override", known: Sequence[str]) -> list[str]:
    """The overrides without a sweep that a group override stands for."""
    if not override.is_sweep_override():
        return [override.input_line or ""]
    return [f"{override.get_key_element()}={value}" for value in _values(override, known)]


def _not_a_sweep(override: "Override") -> str:
    line, key = override.input_line or "", override.get_key_element()
    value = line.partition("=")[2]
    return f"{line} lists several values: add --multirun to run each, or write {key}=[{value}]"
