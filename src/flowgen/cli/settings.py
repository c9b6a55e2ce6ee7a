"""The composed config as a dictionary of settings that can be looked up and listed.

Knows also the settings of choices that were not chosen, to say where a missing name would exist.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from flowgen.cli.config_tree import ConfigTree
from flowgen.cli.suggest import did_you_mean
from flowgen.cli.value_types import problem_with

if TYPE_CHECKING:
    from omegaconf import DictConfig

_ABSENT = object()


def leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield ``value`` under ``key``, a mapping item by item: ``a={b: 1}`` is ``a.b=1``."""
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from leaves(f"{key}.{name}", item)
    else:
        yield key, value


class Settings:
    """What can be set once the groups are chosen.

    Args:
        config: A composed config, inside its context.
        tree: The config tree it came from.
        config_name: Its primary config.
    """

    def __init__(self, config: "DictConfig", tree: ConfigTree, config_name: str) -> None:
        from hydra.core.hydra_config import HydraConfig
        from omegaconf import OmegaConf

        self._config = config
        self._choices = [str(group) for group in HydraConfig.get().runtime.choices]
        self._tree = tree
        self._config_name = config_name
        self._plain = OmegaConf.to_container(config, resolve=False)

    def has(self, key: str) -> bool:
        """Whether ``key`` can be set without ``+``."""
        return self._find(key) is not _ABSENT

    def original(self, key: str) -> str:
        """Return where ``key`` really stands if it lies behind a reference, else ``key``.

        With ``network: ${path}`` the original of ``network.power`` is ``path.power``.
        """
        parts = _split(key)
        found: Any = self._plain
        for depth, part in enumerate(parts[:-1]):
            found = _descend(found, [part])
            reference = re.fullmatch(r"\$\{([\w.]+)\}", found) if isinstance(found, str) else None
            if reference:
                return self.original(".".join([reference.group(1), *parts[depth + 1 :]]))
        return key

    def value(self, key: str) -> Any:
        """Return the resolved default as plain data, None if it cannot be resolved."""
        found = self._find(key)
        if isinstance(found, str) and "${" in found:
            return self._resolve(key)
        return None if found is _ABSENT else found

    def missing(self) -> list[str]:
        """Return the keys that stand as ``???``."""
        return [key for key, value in _walk(self._plain) if value == "???"]

    @cached_property
    def names(self) -> dict[str, tuple[str, ...]]:
        """Every settable key and group, with the choices that have it (none if there already)."""
        names: dict[str, tuple[str, ...]] = {key: () for key, _ in _walk(self._plain)}
        there = {*names, *self._tree.groups_of(self._config_name)}
        for group, choices in self._tree.groups_of(self._config_name).items():
            names.setdefault(group, ())
            if group == "experiment":
                continue
            package = group.replace("/", ".")
            for choice in choices:
                for key, _ in _walk(self._tree.load(f"{group}/{choice}")):
                    name = f"{package}.{key}"
                    if key.split(".")[0] != "defaults" and name not in there:
                        names[name] = (*names.get(name, ()), f"{group}={choice}")
        return names

    def unknown(self, key: str) -> str:
        """Return the line about a key that does not exist."""
        original = self.original(key)
        if original != key and self.has(original):
            return f"'{key}' is '{original}': set that"
        need = self.names.get(key)
        if need:
            add = need[0] if len(need) == 1 else "one of them"
            return f"no setting '{key}' here; it belongs to {', '.join(need)}: add {add}"
        here = [name for name, choices in self.names.items() if not choices]
        hint = did_you_mean(key, here) or did_you_mean(key, self.names)
        guess = hint.split("'")[1] if hint else ""
        if self.names.get(guess):
            hint = f"{hint[:-1]} (with {self.names[guess][0]})?"
        see = hint or f"; see all with: flowgen config show {self._config_name}"
        return f"no setting '{key}'{see}"

    def misfit(self, key: str, value: Any) -> str | None:
        """Return why ``value`` cannot be set at ``key``, None if it can."""
        problem = problem_with(key, value, self.value(key))
        if problem is None or self._fits_another_choice(key, value):
            return None
        for group in self._choices:
            if group.endswith(f"@{key}") and isinstance(value, str):
                return f"{key} takes a choice by its group: write {group}={value}"
        return problem

    def unknown_group(self, group: str) -> str:
        """Return the line about a config group that does not exist."""
        known = self._tree.groups()
        hint = did_you_mean(group, known)
        return f"no config group '{group}'{hint or '.'} Groups: {', '.join(known)}"

    def _fits_another_choice(self, key: str, value: Any) -> bool:
        """Whether some other choice of the key's group has a default that ``value`` fits."""
        for group, choices in self._tree.groups().items():
            package = group.replace("/", ".") + "."
            if not key.startswith(package):
                continue
            for choice in choices:
                content: Any = self._tree.load(f"{group}/{choice}")
                found = _descend(content, key[len(package) :].split("."))
                if isinstance(found, str) and "${" in found or found is _ABSENT:
                    continue
                if problem_with(key, value, found) is None:
                    return True
        return False

    def _find(self, key: str) -> Any:
        return _descend(self._plain, _split(key))

    def _resolve(self, key: str) -> Any:
        from omegaconf import Container, OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        try:
            node = OmegaConf.select(self._config, key)
        except OmegaConfBaseException:
            return None
        return OmegaConf.to_container(node) if isinstance(node, Container) else node


def _split(key: str) -> list[str]:
    return [part for part in re.split(r"[.\[\]]+", key) if part]


def _descend(content: Any, parts: list[str]) -> Any:
    for part in parts:
        if isinstance(content, Mapping):
            content = content.get(part, _ABSENT)
        elif isinstance(content, list) and part.isdigit() and int(part) < len(content):
            content = content[int(part)]
        else:
            return _ABSENT
    return content


def _walk(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(content, Mapping):
        for name, value in content.items():
            key = f"{prefix}{name}"
            yield key, value
            yield from _walk(value, f"{key}.")
