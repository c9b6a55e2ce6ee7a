"""The verbs that Hydra runs, and what their help says.

Config and code are in the files of the same name, with underscores for its hyphens.

Every example here is composed by a test, so none can go stale.
"""

from flowgen.cli.verbs.data import CHECK_DATA, ENCODE, MAKE_PAIRS, TRAIN_AUTOENCODER
from flowgen.cli.verbs.fits import (
    FIT_COUPLING,
    FIT_EXPRESSWAY,
    FIT_KAPPA,
    FIT_PAIRS,
    FIT_PATH,
    FIT_SAMPLER,
)
from flowgen.cli.verbs.models import DISTILL, EDIT, EVALUATE, EXPORT, INVERT, SAMPLE, TRAIN, WRAP
from flowgen.cli.verbs.verb import Example, Verb

__all__ = ["PLACEHOLDERS", "VERBS", "Example", "Verb", "verb_named"]

PLACEHOLDERS = {
    "checkpoint": "run folder or file",
    "teacher": "run folder or file",
    "coupling.folder": "folder of flowgen make-pairs",
    "data.root": "folder of images",
    "data.folder": "folder of flowgen encode",
    "data.path": "name on the hub, or folder",
    "data.shards": "tar file or pattern",
    "autoencoder": "folder or name on the hub",
    "pretrained": "folder of diffusers, or name on the hub",
    "model.path": "folder of diffusers, or name on the hub",
    "path.schedule.file": "file of flowgen fit-path",
}
"""What to write for a required setting, where its name does not say it."""

VERBS = {
    verb.name: verb
    for verb in (
        *(TRAIN, DISTILL, SAMPLE, EDIT, INVERT, EVALUATE, EXPORT, WRAP),
        *(MAKE_PAIRS, CHECK_DATA, TRAIN_AUTOENCODER, ENCODE),
        *(FIT_SAMPLER, FIT_KAPPA, FIT_COUPLING, FIT_PAIRS, FIT_PATH, FIT_EXPRESSWAY),
    )
}
"""Verbs by name, in the order of the overview."""


def verb_named(typed: str) -> Verb | None:
    """Return the verb that was ``typed``, where ``_`` may stand for ``-``, or None."""
    return VERBS.get(typed.replace("_", "-"))
