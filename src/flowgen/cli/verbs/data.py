"""Verbs that look at data, and make data to train on."""

from flowgen.cli.verbs.verb import Example, Verb

CHECK_DATA = Verb(
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

MAKE_PAIRS = Verb(
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

TRAIN_AUTOENCODER = Verb(
    name="train-autoencoder",
    summary="make a small autoencoder of images, for their latents",
    description=(
        "Train an autoencoder that gives images back from a few numbers for each patch, and write "
        "it as diffusers does. Models of the latents are smaller and faster than models of the "
        "pixels. Interrupted, the same command goes on."
    ),
    command="flowgen train-autoencoder data=fashion_mnist",
    overrides=(
        Example("data=digits", "the data set"),
        Example("autoencoder.channels=[32,64]", "two levels: latents of half the side"),
        Example("autoencoder.latent_channels=8", "more numbers for each patch: more detail"),
        Example("kl_weight=1e-5", "less pressure to unit scale: more detail"),
        Example("trainer.max_steps=10000", "number of optimiser steps"),
        Example("out=my_autoencoder", "the folder to encode with"),
    ),
)

ENCODE = Verb(
    name="encode",
    summary="encode a data set of images once, to train on its latents",
    description=(
        "Encode the training images by an autoencoder of diffusers and write the latents, half "
        "precision and mapped into memory, with what they were made of. data=latents then trains "
        "on them; the autoencoder travels in every checkpoint, so samples are images."
    ),
    command="flowgen encode data=fashion_mnist autoencoder=autoencoder_fashion_mnist",
    overrides=(
        Example("data=digits", "the data set"),
        Example("autoencoder=my_autoencoder", "folder or name on the hub"),
        Example("batch_size=16", "images at once"),
        Example("device=cuda", "where to encode"),
        Example("out=my_latents", "the folder to train with"),
    ),
    required=("autoencoder=my_autoencoder",),
)
