"""What ``--help`` says: plain text from the verb table and the files of the config tree."""

import shutil
from textwrap import fill

from flowgen.cli.commands import COMMANDS
from flowgen.cli.config_tree import ConfigTree
from flowgen.cli.verbs import VERBS, Verb


def width() -> int:
    """Return the columns that text is wrapped to: the terminal's, within 60 to 100."""
    return min(100, max(60, shutil.get_terminal_size((100, 24)).columns))


def table(rows: list[tuple[str, str]]) -> str:
    """Return rows ``(name, text)`` in two columns, as wide as the terminal."""
    left = max(len(name) for name, _ in rows) + 2
    return "\n".join(
        fill(
            text,
            width(),
            initial_indent=f"  {name:<{left}}",
            subsequent_indent=" " * (left + 2),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for name, text in rows
    )


def overview() -> str:
    """Return the text of ``flowgen --help``."""
    verbs = [(verb.name, verb.summary) for verb in VERBS.values()]
    verbs += [(command.name, command.summary) for command in COMMANDS.values()]
    verbs.append(("help", "explain a verb or a command"))
    lines = [verb.command for verb in VERBS.values()]
    lines += [command.example for command in COMMANDS.values()]
    # A command stands on a line of its own, whatever the width, so that it can be copied.
    examples = "\n".join(f"  {line}" for line in lines)
    return f"""flowgen: train, sample and evaluate flow-matching models

usage: flowgen VERB [group=choice ...] [key=value ...] [--multirun]

verbs:
{table(verbs)}

examples:
{examples}

overrides:
  Every value can be set on the command line: `group=choice` takes another file of the config
  tree (path=trig), `key=value` sets one value (optimizer.lr=3e-4), lists are [1,2,3] and `null`
  is nothing. With --multirun, comma-separated values run one job for each: seed=0,1,2.
  `flowgen VERB --help` lists the groups, `flowgen config show` prints the result.

  --help, --version

Documentation: README.md and docs/ of the repository; in Python: help(flowgen).
"""


def verb_help(verb: Verb, tree: ConfigTree) -> str:
    """Return the text of ``flowgen VERB --help``."""
    groups = [
        (group, ", ".join(names)) for group, names in tree.groups_of(verb.config_name).items()
    ]
    return f"""usage: flowgen {verb.name} [group=choice ...] [key=value ...] [--multirun]

{fill(verb.description, width())}

example:
  {verb.command}

most used overrides:
{table([(example.text, example.meaning) for example in verb.overrides])}

config groups (group=choice):
{table(groups) if groups else "  none"}

see the config:
  flowgen config show {verb.name} [override ...]
  flowgen config groups GROUP           what each choice of a group is
  flowgen {verb.name} --cfg job [--resolve] [--package KEY]

flags:
  --dry-run           look before: train and sample say what they would do, and write nothing
  --multirun, -m      run every combination of comma-separated values: seed=0,1,2
  --cfg job           print the composed config and stop; --info all tells where it comes from
  --config-dir DIR    add a folder of your own configs to the tree
  --hydra-help        the settings of Hydra itself
"""


def groups_text(tree: ConfigTree) -> str:
    """Return all groups with their choices."""
    return table([(group, ", ".join(names)) for group, names in tree.groups().items()]) + "\n"


def group_text(tree: ConfigTree, group: str) -> str:
    """Return the choices of one group with their descriptions."""
    choices = tree.groups()[group]
    rows = [(f"{group}={choice}", tree.describe(f"{group}/{choice}")) for choice in choices]
    return table(rows) + "\n"
