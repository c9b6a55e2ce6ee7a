"""Where each value of a composed config comes from.

Hydra lists the files of a composition in the order in which later ones win, each with the place
(package) that it is put at; the overrides of the command line win over all. Walking through them in
that order and noting for each value who set it last tells its origin. A value that stands behind a
reference, as ``network: ${path}`` does, has the origin of the reference.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

COMMAND_LINE = "command line"
"""Origin of what was typed."""

_WIDEST = 60


def origins(config_name: str, overrides: Sequence[str]) -> dict[str, str]:
    """Return the origin of every value by its dotted key; call inside ``composed``.

    Args:
        config_name: The primary config.
        overrides: What was typed, without sweeps.

    Returns:
        Name of a file of the config tree, with what it refers to where it does, or
        :data:`COMMAND_LINE`.
    """
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    loader: Any = GlobalHydra.instance().config_loader()
    found: dict[str, str] = {}
    defaults = loader.compute_defaults_list(config_name, list(overrides), RunMode.RUN).defaults
    for default in defaults:
        path = default.config_path
        if path is None or path.startswith("hydra/") or path == "_dummy_empty_config_":
            continue
        content = OmegaConf.to_container(loader.repository.load_config(path).config)
        assert isinstance(content, dict)
        content.pop("defaults", None)
        _note(found, default.package or "", content, f"{path}.yaml")
    groups = set(loader.list_groups(""))
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.key_or_group
        if override.is_hydra_override() or "/" in key or key in groups:
            continue
        _forget(found, key)
        if not override.is_delete():
            _note_value(found, key, override.value(), COMMAND_LINE)
    return found


def annotated(text: str, found: Mapping[str, str]) -> str:
    """Return YAML with the origin of each value as a comment.

    Args:
        text: YAML of a mapping.
        found: Of :func:`origins`.
    """
    import yaml

    lines = text.splitlines()
    origin = {
        number: told
        for key, number in _leaves(yaml.compose(text, Loader=yaml.SafeLoader), "")
        if (told := _origin(key, found)) is not None
    }
    widest = min(_WIDEST, max((len(lines[number]) for number in origin), default=0))
    for number, told in origin.items():
        lines[number] = f"{lines[number]:<{widest}}  # {told}"
    return "\n".join(lines) + "\n"


def _origin(key: str, found: Mapping[str, str]) -> str | None:
    """Return the origin of a key, or of the nearest mapping that it stands in."""
    while key:
        if key in found:
            return found[key]
        key = key.rpartition(".")[0]
    return None


def _note(found: dict[str, str], package: str, content: Mapping[Any, Any], origin: str) -> None:
    for name, value in content.items():
        key = f"{package}.{name}" if package else str(name)
        _note_value(found, key, value, origin)


def _note_value(found: dict[str, str], key: str, value: Any, origin: str) -> None:
    if isinstance(value, Mapping) and value:
        if found.get(key) is not None:  # a mapping in place of a plain value
            _forget(found, key)
        _note(found, key, value, origin)
        return
    _forget(found, key)
    reference = re.fullmatch(r"\$\{([^{}]+)\}", value) if isinstance(value, str) else None
    found[key] = f"{origin}, = {reference.group(1)}" if reference else origin


def _forget(found: dict[str, str], key: str) -> None:
    for name in [name for name in found if name == key or name.startswith(f"{key}.")]:
        del found[name]


def _leaves(node: Any, prefix: str) -> Iterator[tuple[str, int]]:
    """Yield ``(dotted key, line number)`` of every value that is no mapping with entries."""
    for name, value in node.value:
        key = f"{prefix}{name.value}"
        if value.id == "mapping" and value.value:
            yield from _leaves(value, f"{key}.")
        else:
            yield key, name.start_mark.line
