"""The entry point: pick the command, leave the rest to it, turn what happens into an exit code."""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from flowgen.cli.commands import COMMANDS
from flowgen.cli.config_dir import config_dir as find_config_dir
from flowgen.cli.config_tree import ConfigTree
from flowgen.cli.errors import UsageError, exit_code
from flowgen.cli.help_text import overview, verb_help
from flowgen.cli.suggest import did_you_mean
from flowgen.cli.verbs import VERBS, verb_named

_HELP = {"-h", "--help"}


def main(argv: Sequence[str] | None = None, *, config_dir: Path | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        argv: Words after the program's name; None takes the process's own.
        config_dir: Config tree to use instead of flowgen's.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    return exit_code(lambda: _dispatch(words, config_dir))


def _dispatch(words: list[str], folder: Path | None) -> int:
    command, rest = (words[0], words[1:]) if words else ("help", [])
    if command in _HELP | {"help"}:
        return _help(rest, folder)
    if command in ("--version", "version") or "--version" in rest:
        from flowgen import __version__

        sys.stdout.write(f"flowgen {__version__}\n")
        return 0
    if command in COMMANDS:
        if _HELP & set(rest):
            return _help([command], folder)
        module = importlib.import_module(COMMANDS[command].module)
        return module.run(rest, folder or find_config_dir())
    verb = verb_named(command)
    if verb is None:
        raise UsageError(_unknown(words))
    if _HELP & set(rest):
        return _help([command], folder)
    from flowgen.cli.hydra_app import run_verb

    return run_verb(verb, rest, folder or find_config_dir())


def _help(words: list[str], folder: Path | None) -> int:
    topics = [word for word in words if not word.startswith("-")]
    topic = topics[0] if topics else None
    if topic is None:
        text = overview()
    elif topic in COMMANDS:
        text = importlib.import_module(COMMANDS[topic].module).help_text()
    elif verb := verb_named(topic):
        text = verb_help(verb, ConfigTree((folder or find_config_dir(),)))
    else:
        raise UsageError(_unknown(topics))
    sys.stdout.write(text)
    return 0


def _unknown(words: Sequence[str]) -> str:
    """Return what to say of words of which the first is no verb."""
    command = words[0]
    known = [*VERBS, *COMMANDS, "help"]
    if "=" in command:
        return f"'{command}' comes before the verb: write flowgen train {command}"
    # A verb of two words, its hyphen left out, or turned round: data check.
    first = words[:2]
    for both in ("-".join(first), "-".join(first[::-1])):
        if verb := verb_named(both):
            return f"no verb '{' '.join(first)}'; did you mean '{verb.name}'?"
    hint = did_you_mean(command, known)
    return f"no verb '{command}'{hint or '; verbs: ' + ', '.join(known)}"
