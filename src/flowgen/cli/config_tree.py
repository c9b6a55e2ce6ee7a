"""The config tree as files: its groups, their choices and what each says of itself.

Read without Hydra, so that help is immediate. A group is a folder with YAML files, a choice is a
file; the first comment line of a file describes it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ConfigTree:
    """One or more config folders seen as one tree.

    Args:
        folders: Absolute folders; where a file exists twice, the first one counts.
    """

    folders: tuple[Path, ...]

    def groups(self) -> dict[str, list[str]]:
        """Return the choices of every group, sorted; groups of Hydra itself are left out."""
        found: dict[str, set[str]] = {}
        for folder in self.folders:
            for file in folder.rglob("*.yaml"):
                group = file.parent.relative_to(folder).as_posix()
                if group != "." and group.split("/")[0] != "hydra":
                    found.setdefault(group, set()).add(file.stem)
        return {group: sorted(found[group]) for group in sorted(found)}

    def groups_of(self, config_name: str) -> dict[str, list[str]]:
        """Return the groups that a primary config draws on, directly or through its choices."""
        everything = self.groups()
        seen: set[str] = set()
        waiting = self._references(config_name, everything)
        while waiting:
            group = waiting.pop()
            if group in seen:
                continue
            seen.add(group)
            for choice in everything[group]:
                waiting |= self._references(f"{group}/{choice}", everything)
        return {group: choices for group, choices in everything.items() if group in seen}

    def draws(self, config_name: str, group: str) -> bool:
        """Whether the defaults list of a primary config names ``group`` itself."""
        return group in self._references(config_name, [group])

    def file(self, config: str) -> Path | None:
        """Return the file of ``group/choice`` or of a primary config, None if there is none."""
        paths = (folder / f"{config}.yaml" for folder in self.folders)
        return next((path for path in paths if path.is_file()), None)

    def describe(self, config: str) -> str:
        """Return the first comment line of a config that says something, or an empty string."""
        path = self.file(config)
        for line in path.read_text(encoding="utf-8").splitlines() if path else []:
            text = line.lstrip("#").strip()
            if line.startswith("#") and text and not text.startswith("@package"):
                return text
            if line.strip() and not line.startswith("#"):
                break
        return ""

    def load(self, config: str) -> Mapping[str, Any]:
        """Return a config as plain data, as it stands in its file; empty if it has no settings."""
        import yaml

        # The parser in C, if PyYAML has it, saves each command a twentieth of a second.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        path = self.file(config)
        content = yaml.load(path.read_text(encoding="utf-8"), loader) if path else None
        return content if isinstance(content, dict) else {}

    def _references(self, config: str, known: Iterable[str]) -> set[str]:
        """Groups in the defaults list of a config, and in those of configs that it builds on."""
        path = self.file(config)
        # Parsing every file would cost more than the rest of the start-up.
        if path is None or "defaults:" not in path.read_text(encoding="utf-8"):
            return set()
        parent = config.rpartition("/")[0]
        found: set[str] = set()
        for entry in self.load(config).get("defaults") or []:
            whole = str(next(iter(entry)) if isinstance(entry, Mapping) else entry)
            name = whole.split("@")[0].split()[-1]
            absolute = name.startswith("/") or not parent
            name = name.lstrip("/") if absolute else f"{parent}/{name}"
            if isinstance(entry, Mapping):
                found.add(name)
            elif name != config:
                found |= self._references(name, known)
        return found & set(known)
