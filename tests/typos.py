"""Realistic slips in names, made from the real config tree, always the same ones.

A slip that happens to be another real name, or that lies as near to another real name as to the
right one (by the plain edit distance), has no single right answer and is not counted.
"""

import random

from flowgen.cli.suggest import edit_distance

_KEYBOARD = (
    "q:wa w:qes e:wrd r:etf t:ryg y:tuh u:yij i:uok o:ipl p:ol a:qsz s:adwx d:sfec f:dgrv "
    "g:fhtb h:gjyn j:hkum k:jlim l:ko z:xa x:zcs c:xvd v:cbf b:vng n:bmh m:nj"
)
NEIGHBOURS = dict(pair.split(":") for pair in _KEYBOARD.split())
"""Letters of a keyboard and those beside them."""


def _drop(rng, word):
    i = rng.randrange(1, len(word))
    return word[:i] + word[i + 1 :]


def _double(rng, word):
    i = rng.randrange(len(word))
    return word[:i] + word[i] + word[i:]


def _swap(rng, word):
    i = rng.randrange(len(word) - 1)
    return word[:i] + word[i + 1] + word[i] + word[i + 2 :]


def _neighbour(rng, word):
    places = [i for i, letter in enumerate(word) if letter in NEIGHBOURS]
    i = rng.choice(places)
    return word[:i] + rng.choice(NEIGHBOURS[word[i]]) + word[i + 1 :]


def _insert(rng, word):
    i = rng.randrange(1, len(word))
    return word[:i] + rng.choice("aeiorstn") + word[i:]


def _plural(rng, word):
    return word[:-1] if word.endswith("s") else word + "s"


def _case(rng, word):
    return word.upper() if rng.random() < 0.5 else word.capitalize()


def _hyphen(rng, word):
    return word.replace("_", "-") if "_" in word else None


def _joined(rng, word):
    return word.replace("_", "") if "_" in word else None


def _turned(rng, word):
    parts = word.split("_")
    return "_".join(reversed(parts)) if len(parts) > 1 else None


SLIPS = {
    "drop": _drop,
    "double": _double,
    "swap": _swap,
    "neighbour": _neighbour,
    "insert": _insert,
    "plural": _plural,
    "case": _case,
    "hyphen": _hyphen,
    "joined": _joined,
    "turned": _turned,
}


def slipped(kind, name, rng):
    """Return ``name`` with a slip in its last part, None where that kind of slip cannot be made."""
    front, dot, last = name.rpartition(".")
    if len(last) < 4:
        return None
    typed = SLIPS[kind](rng, last)
    return None if typed is None or typed == last else f"{front}{dot}{typed}"


def decidable(typed, meant, names):
    """Whether ``meant`` is nearer to ``typed`` than every other name, and ``typed`` is no name."""
    if typed in names:
        return False
    reach = edit_distance(typed, meant)
    return all(edit_distance(typed, other) > reach for other in names if other != meant)


def typos(names, count, seed):
    """Return ``count`` triples ``(kind, typed, meant)``, the kinds in turn."""
    rng = random.Random(seed)
    names = sorted(names)
    found = []
    for _ in range(200 * count):
        if len(found) == count:
            break
        kind = list(SLIPS)[len(found) % len(SLIPS)]
        meant = rng.choice(names)
        typed = slipped(kind, meant, rng)
        if typed is not None and decidable(typed, meant, set(names)):
            found.append((kind, typed, meant))
    return found
