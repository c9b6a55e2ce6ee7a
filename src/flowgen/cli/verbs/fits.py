"""Verbs that fit something to data or to a model before it is used."""

from flowgen.cli.verbs.verb import Example, Verb

FIT_SAMPLER = Verb(
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

FIT_KAPPA = Verb(
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

FIT_COUPLING = Verb(
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

FIT_PAIRS = Verb(
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

FIT_PATH = Verb(
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

FIT_EXPRESSWAY = Verb(
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
