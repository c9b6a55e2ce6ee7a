"""The verbs that Hydra runs, and what their help says.

Config and code are in the files of the same name, with underscores for its hyphens.

Every example here is composed by a test, so none can go stale.
"""

from dataclasses import dataclass
from typing import NamedTuple


class Example(NamedTuple):
    """A part of a command line and what it does."""

    text: str
    meaning: str


@dataclass(frozen=True)
class Verb:
    """A verb of the command line.

    Args:
        name: As typed, in lower case with hyphens.
        summary: One line for the overview.
        description: A paragraph for the verb's own help.
        command: A complete command to copy.
        overrides: The most used overrides.
        required: Overrides without which the verb cannot start.
        filled_in: Config sections whose missing values the verb fills in from what it loads.
    """

    name: str
    summary: str
    description: str
    command: str
    overrides: tuple[Example, ...]
    required: tuple[str, ...] = ()
    filled_in: tuple[str, ...] = ()

    @property
    def config_name(self) -> str:
        """Name of the primary config: that of the verb with underscores for hyphens."""
        return self.name.replace("-", "_")

    @property
    def module(self) -> str:
        """Name of the module whose ``run(cfg)`` does the work."""
        return f"flowgen.cli.{self.config_name}"


PLACEHOLDERS = {
    "checkpoint": "run folder or file",
    "teacher": "run folder or file",
    "coupling.folder": "folder of flowgen make-pairs",
    "data.root": "folder of images",
    "path.schedule.file": "file of flowgen fit-path",
}
"""What to write for a required setting, where its name does not say it."""

_TRAIN = Verb(
    name="train",
    summary="train a flow and write a run folder",
    description=(
        "Train a flow. Writes runs/<experiment>/<time>/ with the resolved config, checkpoints, "
        "metrics.csv and sample grids. Ctrl-C stops it with a checkpoint. With --dry-run it says "
        "what the run will need and writes nothing. With --multirun one job runs for every "
        "combination of comma-separated values."
    ),
    command="flowgen train experiment=digits",
    overrides=(
        Example("experiment=digits", "a complete recipe; everything after it still overrides"),
        Example("path=trig", "another choice of a config group"),
        Example("trainer.max_steps=2000", "number of optimiser steps"),
        Example("data.batch_size=256", "samples in one optimiser step, over all devices"),
        Example("optimizer.lr=3e-4", "peak learning rate"),
        Example("seed=3", "weights, noise and data order"),
        Example("run_dir=my_run", "where to write, instead of runs/<experiment>/<time>"),
        Example("resume=auto", "go on with the newest unfinished run of this config, or start one"),
        Example("resume=my_run", "go on with this run, bit for bit where it stopped"),
        Example("checkpoint=my_run", "start a new run from the weights of this one"),
        Example("logger=wandb", "also log to Weights & Biases (offline without a key)"),
        Example("--multirun path=linear,trig", "a sweep, one job for each value"),
    ),
    filled_in=("facts",),
)

_DISTILL = Verb(
    name="distill",
    summary="make a few-step student of a trained model",
    description=(
        "Make a student that samples in one or a few evaluations. It has model, path, source and "
        "data from its teacher and starts as its copy; the method is a choice of distill. Checks "
        "first that teacher and data agree, shows student beside teacher while it learns, and ends "
        "with a table of quality by evaluations."
    ),
    command="flowgen distill teacher=runs/digits/<time> distill=velocity_matching",
    overrides=(
        Example("teacher=my_run", "run folder or checkpoint file of the teacher"),
        Example("distill=velocity_matching", "the method"),
        Example("guidance.scale=2", "distil the guided teacher: the student needs no guidance"),
        Example("trainer.max_steps=2000", "number of optimiser steps"),
        Example("optimizer.lr=3e-4", "peak learning rate"),
        Example("table.num_samples=2000", "samples of each row of the last table; 0 = no table"),
        Example("run_dir=my_student", "where to write, instead of runs/<teacher>_<method>/<time>"),
    ),
    required=("teacher=my_run", "distill=velocity_matching"),
    filled_in=("facts",),
)

_SAMPLE = Verb(
    name="sample",
    summary="draw samples from a checkpoint",
    description=(
        "Draw samples. The checkpoint knows its own model, path and data, so no setting about "
        "them is needed; the averaged (EMA) weights are used unless told otherwise."
    ),
    command="flowgen sample checkpoint=runs/digits/<time> num_samples=64 out=grid.png",
    overrides=(
        Example("checkpoint=my_run", "run folder or checkpoint file"),
        Example("num_samples=64", "how many"),
        Example("sampler=heun", "the integrator"),
        Example("sampler.num_steps=20", "steps from noise to data"),
        Example("label=3", "the class, or a list such as label=[0,1,2]"),
        Example("guidance.scale=2", "classifier-free guidance; 1 is off"),
        Example("seed=1", "same seed, same samples, whatever the chunk size"),
        Example("out=grid.png", "a .png grid, .npz, .pt, or a folder for one PNG per sample"),
    ),
    required=("checkpoint=my_run",),
)

_EVALUATE = Verb(
    name="evaluate",
    summary="measure a checkpoint against held-out data",
    description=(
        "Sample from a checkpoint, compare with held-out data, print the figures with the "
        "protocol that made them, and save both."
    ),
    command="flowgen evaluate checkpoint=runs/digits/<time>",
    overrides=(
        Example("checkpoint=my_run", "run folder or checkpoint file"),
        Example("num_samples=1000", "how many samples the figures rest on"),
        Example("sampler=heun", "the integrator"),
        Example("seed=1", "seed of the samples"),
        Example("measures=[likelihood]", "what to measure, instead of what fits and is fast"),
        Example("samplers=[euler,heun] num_steps=[1,2,4,8,16]", "quality against cost, in one run"),
    ),
    required=("checkpoint=my_run",),
)

_FIT_SAMPLER = Verb(
    name="fit-sampler",
    summary="fit the steps of a sampler to a model",
    description=(
        "Fit the sizes of a sampler's steps, or all its weights, so that few steps end where many "
        "do. Exports the model with its fitted sampler, which samples so without further settings."
    ),
    command="flowgen fit-sampler checkpoint=runs/digits/<time> sampler.num_steps=8",
    overrides=(
        Example("checkpoint=my_run", "run folder or checkpoint file"),
        Example("sampler=ab2", "the method whose steps are fitted"),
        Example("sampler.num_steps=4", "how many steps it will have"),
        Example("solver=true", "fit the weights of all velocities too: closer, but slower to fit"),
        Example("guidance.scale=2", "fit to the guided model"),
        Example("out=fast.safetensors", "the exported model"),
    ),
    required=("checkpoint=my_run",),
)

_FIT_KAPPA = Verb(
    name="fit-kappa",
    summary="find the strength of weighted pairs for a data set",
    description=(
        "Try strengths of coupling=weighted on samples of the source and the data, and print what "
        "each does: how far it tilts both distributions, how much nearer the pairs are. The elbow "
        "of the tilt is the strength to take."
    ),
    command="flowgen fit-kappa data=digits",
    overrides=(
        Example("data=moons", "the data set"),
        Example("source=eight_gaussians", "another source than noise"),
        Example("num_samples=2048", "samples of each side; memory grows as the square"),
        Example("kappa_min=0.1", "smallest strength that is tried"),
        Example("kappa_max=10", "largest"),
        Example("slope=0.1", "take the elbow where the tilt falls more slowly than this"),
        Example("out=kappa.json", "where to write the table; the plot lies beside it"),
    ),
    filled_in=("facts",),
)

_FIT_COUPLING = Verb(
    name="fit-coupling",
    summary="fit optimal transport from the source to a whole data set",
    description=(
        "Fit a potential for every training sample, so that the noise is shared out among them "
        "equally and at the least distance. coupling=semidiscrete then pairs with the whole data "
        "set instead of a batch."
    ),
    command="flowgen fit-coupling data=digits",
    overrides=(
        Example("data=fashion_mnist", "the data set"),
        Example("by_label=false", "one fit for all classes; null: by label where there are labels"),
        Example("threshold=0.01", "how equal the shares must be (chi-square)"),
        Example("batch_size=4096", "noises of a step: more are steadier"),
        Example("max_steps=50000", "give up after so many steps"),
        Example("device=cuda", "where to fit"),
        Example("out=coupling.safetensors", "the file to train with"),
    ),
    filled_in=("facts",),
)

_FIT_PAIRS = Verb(
    name="fit-pairs",
    summary="pair many thousands of rows at once, before the training",
    description=(
        "Solve entropic transport between rounds of fresh noise and the training set, draw a "
        "partner for each noise, and write four bytes for each pair. coupling=stored then trains "
        "on them. A round that is written is not made again: the same command goes on."
    ),
    command="flowgen fit-pairs data=digits",
    overrides=(
        Example("data=fashion_mnist", "the data set"),
        Example("rows=65536", "noises of a round: more are paired better"),
        Example("rounds=32", "how much fresh noise there is"),
        Example("epsilon=0.03", "nearer pairs and more sweeps; in deviations of the cost"),
        Example("by_label=false", "one plan for all classes; null: by label where there are any"),
        Example("device=cuda", "where to solve"),
        Example("out=pairs.safetensors", "the file to train with"),
    ),
    filled_in=("facts",),
)

_MAKE_PAIRS = Verb(
    name="make-pairs",
    summary="write where a model's flow takes the noise, to train on",
    description=(
        "Solve a model's flow from fresh noise and write noise and sample as pairs, in shards. "
        "coupling=made_pairs then trains on them, for reflow and for students of one or a few "
        "steps. A shard that is written is not made again: the same command goes on."
    ),
    command="flowgen make-pairs teacher=runs/digits/<time> num_pairs=10000",
    overrides=(
        Example("teacher=my_run", "run folder or checkpoint file"),
        Example("num_pairs=100000", "how many in all; more overfit less"),
        Example("sampler.num_steps=100", "steps of the solver, whose error stays in the pairs"),
        Example("guidance.scale=2", "pairs of the guided model: the student needs no guidance"),
        Example("label=[0,1]", "classes in turn; null: all of them"),
        Example("shard_size=1024", "pairs of a file: what an interruption loses at most"),
        Example("device=cuda", "where to solve"),
        Example("out=pairs", "the folder to train with"),
    ),
    required=("teacher=my_run",),
)

_FIT_EXPRESSWAY = Verb(
    name="fit-expressway",
    summary="fit transport from noise to a late time of a model's path",
    description=(
        "Noise the training set of a checkpoint to a late time and fit transport from the source "
        "to it. sampler=expressway then starts there and takes the rest of the way alone: few "
        "steps, to near copies of training samples."
    ),
    command="flowgen fit-expressway checkpoint=runs/digits/<time>",
    overrides=(
        Example("checkpoint=my_run", "run folder or checkpoint file"),
        Example("start=0.8", "where sampling will start: later is shorter and nearer to copies"),
        Example("threshold=0.5", "how equal the shares of the samples must be (chi-square)"),
        Example("max_steps=50000", "give up after so many steps"),
        Example("device=cuda", "where to fit"),
        Example("out=expressway.safetensors", "the file to sample with"),
    ),
    required=("checkpoint=my_run",),
)

_FIT_PATH = Verb(
    name="fit-path",
    summary="fit the path of least kinetic energy to data",
    description=(
        "Find the path whose flow moves least, from the points of a data set or, where these are "
        "few for their dimension, from the losses of a trained model. Prints its energy beside "
        "those of other paths, and the override to train or sample with it."
    ),
    command="flowgen fit-path data=checkerboard",
    overrides=(
        Example("data=moons", "fit from the points of this data set"),
        Example("checkpoint=my_run", "fit from a trained model instead, and its held-out data"),
        Example("num_points=20000", "most points; the time grows with it"),
        Example("num_noise=4096", "noisy points at each ratio: less noise in the estimate"),
        Example("floor=0.03", "less energy, larger targets near the noise"),
        Example("device=cuda", "where to compute"),
        Example("out=path.json", "where to write the table; the plot lies beside it"),
    ),
)

_CHECK_DATA = Verb(
    name="check-data",
    summary="count a data set, look at it and name what is wrong",
    description=(
        "Read a data set as training would, print counts of samples, classes and captions, what is "
        "rare, empty or there twice, and draw some of it. Files that cannot be read are named."
    ),
    command="flowgen check-data data=image_folder data.root=my_images",
    overrides=(
        Example("data=emoji", "the data set"),
        Example("data=digits", "another one; of your own images: data=image_folder data.root=..."),
        Example("num_shown=100", "training samples in the picture"),
        Example("out=look.png", "where to draw"),
    ),
)

VERBS = {
    verb.name: verb
    for verb in (
        *(_TRAIN, _DISTILL, _SAMPLE, _EVALUATE, _MAKE_PAIRS, _CHECK_DATA),
        *(_FIT_SAMPLER, _FIT_KAPPA, _FIT_COUPLING, _FIT_PAIRS, _FIT_PATH, _FIT_EXPRESSWAY),
    )
}
"""Verbs by name, in the order of the overview."""


def verb_named(typed: str) -> Verb | None:
    """Return the verb that was ``typed``, where ``_`` may stand for ``-``, or None."""
    return VERBS.get(typed.replace("_", "-"))
