"""Hydra's own flags, told apart from overrides wherever they stand on the line."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from flowgen.cli.config_tree import ConfigTree
from flowgen.cli.errors import UsageError
from flowgen.cli.suggest import did_you_mean
from flowgen.cli.text_values import as_text

_SHORT_FORMS = {"--dry-run": "dry_run=true"}
_UNCHECKED = {"hydra_help", "shell_completion", "experimental_rerun"}


@dataclass(frozen=True)
class Flags:
    """A parsed command line.

    Args:
        overrides: The overrides, in order.
        flags: All other words, in order.
        config_name: Primary config asked for by ``--config-name``.
        tree: Config tree, ``--config-path`` and ``--config-dir`` taken into account.
        multirun: Whether this is a sweep.
        runs: Whether the verb runs, rather than its config being shown.
        checked: Whether the overrides are about our configs.
    """

    overrides: tuple[str, ...]
    flags: tuple[str, ...]
    config_name: str
    tree: ConfigTree
    multirun: bool
    runs: bool
    checked: bool


def parse_flags(words: Sequence[str], config_name: str, folder: Path) -> Flags:
    """Return the command line of a verb, parsed by Hydra's own parser.

    Args:
        words: Everything after the verb.
        config_name: The verb's primary config.
        folder: The main config folder.

    Raises:
        UsageError: If a flag is unknown or lacks its value, or a folder does not exist.
    """
    from hydra._internal.utils import get_args_parser

    words = as_text(_SHORT_FORMS.get(word, word) for word in words)
    parser = get_args_parser()

    def fail(message: str) -> NoReturn:
        known = [name for action in parser._actions for name in action.option_strings]
        unknown = next((word for word in words if word.split("=")[0] in message), "")
        hint = did_you_mean(unknown, [name for name in known if name.startswith("--")])
        raise UsageError(message + (hint if "unrecognized" in message else ""))

    parser.error = fail
    parsed = parser.parse_intermixed_args(list(words))
    if parsed.resolve and parsed.cfg is None:
        raise UsageError("--resolve goes with --cfg job")
    modes = (parsed.run, parsed.multirun, parsed.cfg, parsed.info, parsed.shell_completion)
    if sum(map(bool, modes)) > 1:
        raise UsageError("--run, --multirun, --cfg, --info and --shell-completion exclude another")
    rest = list(words)
    for override in parsed.overrides:
        rest.remove(override)
    main = Path(parsed.config_path).resolve() if parsed.config_path else folder
    extra = [Path(parsed.config_dir).resolve()] if parsed.config_dir else []
    for place in (*extra, main):
        if not place.is_dir():
            raise UsageError(f"no config folder at {place}")
    mode_is_sweep = any(text.upper() == "HYDRA.MODE=MULTIRUN" for text in parsed.overrides)
    return Flags(
        overrides=tuple(parsed.overrides),
        flags=tuple(rest),
        config_name=parsed.config_name or config_name,
        tree=ConfigTree((*extra, main)),
        multirun=parsed.multirun or mode_is_sweep,
        runs=parsed.cfg is None and parsed.info is None,
        checked=not any(getattr(parsed, name) for name in _UNCHECKED),
    )
