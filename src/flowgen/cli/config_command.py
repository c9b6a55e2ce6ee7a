"""``flowgen config``: look at configs without running anything or importing torch."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowgen.cli.config_tree import ConfigTree
from flowgen.cli.errors import UsageError
from flowgen.cli.help_text import group_text, groups_text, table
from flowgen.cli.suggest import did_you_mean
from flowgen.cli.verbs import VERBS, Example, verb_named

if TYPE_CHECKING:
    from omegaconf import DictConfig


_EXAMPLES = (
    Example("flowgen config show path=trig", "the config that `flowgen train path=trig` would use"),
    Example("flowgen config show sample", "the config of another verb"),
    Example("flowgen config groups", "all config groups and their choices"),
    Example("flowgen config groups path", "what each choice of a group is"),
)


def help_text() -> str:
    """Return the text of ``flowgen config --help``."""
    rows = table([(example.text, example.meaning) for example in _EXAMPLES])
    return f"""usage: flowgen config show [VERB] [override ...]
       flowgen config groups [GROUP]

{rows}
"""


def run(words: Sequence[str], folder: Path) -> int:
    """Run ``flowgen config ...`` and return the exit code.

    Raises:
        UsageError: If there is no such subcommand, verb, group or override.
    """
    commands = {"show": _show, "groups": _groups}
    if not words or words[0] == "help":
        sys.stdout.write(help_text())
        return 0
    if words[0] not in commands:
        hint = did_you_mean(words[0], commands)
        raise UsageError(f"no command 'config {words[0]}'{hint or '; try: flowgen config show'}")
    sys.stdout.write(commands[words[0]](words[1:], folder))
    return 0


def _groups(words: Sequence[str], folder: Path) -> str:
    tree = ConfigTree((folder,))
    if not words:
        return groups_text(tree)
    known = tree.groups()
    if words[0] not in known:
        hint = did_you_mean(words[0], known) or f". Groups: {', '.join(known)}"
        raise UsageError(f"no config group '{words[0]}'{hint}")
    return group_text(tree, words[0])


def _show(words: Sequence[str], folder: Path) -> str:
    from flowgen.cli.compose import composed
    from flowgen.cli.flags import parse_flags
    from flowgen.cli.origins import annotated, origins
    from flowgen.cli.overrides import OverrideCheck

    name, rest = "train", list(words)
    if rest and "=" not in rest[0] and not rest[0].startswith(("~", "-")):
        typed = rest.pop(0)
        verb = verb_named(typed)
        if verb is None:
            hint = did_you_mean(typed, VERBS) or f"; verbs: {', '.join(VERBS)}"
            raise UsageError(f"no verb '{typed}'{hint}")
        name = verb.config_name
    line = parse_flags(rest, name, folder)
    OverrideCheck(line.tree, line.config_name, complete=False)(line.overrides)
    with composed(line.tree, line.config_name, line.overrides) as config:
        return annotated(resolved_yaml(config), origins(line.config_name, line.overrides))


def resolved_yaml(config: "DictConfig") -> str:
    """Return a config as YAML, each ``${...}`` replaced by its value where it has one."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(_resolved(config)))


def _resolved(node: Any) -> Any:
    from omegaconf import DictConfig, ListConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(node, DictConfig):
        keys: list[Any] = list(node)
    elif isinstance(node, ListConfig):
        keys = list(range(len(node)))
    else:
        return node
    plain: dict[Any, Any] = {}
    for key in keys:
        if OmegaConf.is_missing(node, key):
            plain[key] = "???"
            continue
        try:
            plain[key] = _resolved(node[key])
        except OmegaConfBaseException:
            raw = OmegaConf.to_container(node, resolve=False)
            plain[key] = raw[key] if isinstance(raw, (dict, list)) else None
    return plain if isinstance(node, DictConfig) else list(plain.values())
