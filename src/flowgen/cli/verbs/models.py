"""Verbs that make, sample and measure models."""

from flowgen.cli.verbs.verb import Example, Verb

TRAIN = Verb(
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

DISTILL = Verb(
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

SAMPLE = Verb(
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
        Example("noise=noise.npz", "start from the noise of flowgen invert"),
        Example("out=grid.png", "a .png grid, .npz, .pt, or a folder for one PNG per sample"),
    ),
    required=("checkpoint=my_run",),
)

EVALUATE = Verb(
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

EXPORT = Verb(
    name="export",
    summary="write a model in a form that other programs run",
    description=(
        "Write the whole sampling, with the sampler and the guidance asked for, decoded to data, "
        "as a graph of torch.export or ONNX or as a folder of diffusers; or the weights and their "
        "description alone. What was written is read back and compared with flowgen's own samples: "
        "beyond the tolerance nothing is kept."
    ),
    command="flowgen export checkpoint=runs/digits/<time> to=onnx",
    overrides=(
        Example("checkpoint=my_run", "run folder or checkpoint file"),
        Example("to=diffusers", "a folder for DiffusionPipeline.from_pretrained"),
        Example("to=torch_export", "a .pt2 file for torch.export.load"),
        Example("sampler.num_steps=10", "fewer steps: a smaller graph"),
        Example("guidance.scale=2", "guided, at this scale for good"),
        Example("out=model.onnx", "where to write"),
        Example("push_to_hub=me/my_model", "also upload it to the Hugging Face hub, with a card"),
        Example("private=true", "into a private repository"),
        Example("licence=apache-2.0", "what the card says of the weights"),
    ),
    required=("checkpoint=my_run", "to=onnx"),
)

EDIT = Verb(
    name="edit",
    summary="change images by a model",
    description=(
        "Change images by a model's flow: noise them part of the way and denoise them under "
        "another condition, go back to the noise and forth again, lead from one image to the next, "
        "or keep a part of the pixels or the grey image and make up the rest. Prints how far the "
        "results are from the images."
    ),
    command="flowgen edit checkpoint=runs/digits/<time> edit=noising label=3",
    overrides=(
        Example("checkpoint=my_run", "run folder or checkpoint file"),
        Example("edit=inversion", "the method"),
        Example("edit.strength=0.7", "of edit=noising: how much is changed"),
        Example("edit=inpainting mask=left", "make up the left half"),
        Example("images=my_images", "image or folder, instead of held-out images"),
        Example("label=3", "what is wanted"),
        Example("was.label=5", "what the images are"),
        Example("out=edited.png", "images above, results below"),
    ),
    required=("checkpoint=my_run",),
)

INVERT = Verb(
    name="invert",
    summary="take images back to their noise",
    description=(
        "Follow a model's flow from images back to the noise that leads to them, under what they "
        "are, and write it to a file. flowgen sample noise=<file> starts from it, under the same "
        "or another condition. Prints how well the noise gives the images back."
    ),
    command="flowgen invert checkpoint=runs/digits/<time> out=noise.npz",
    overrides=(
        Example("checkpoint=my_run", "run folder or checkpoint file"),
        Example("images=my_images", "image or folder, instead of held-out images"),
        Example("was.label=5", "what the images are"),
        Example("sampler=midpoint", "a second-order step, the one of RF-Solver"),
        Example("sampler.num_steps=50", "more steps: nearer to the exact noise"),
        Example("out=noise.npz", "the file"),
    ),
    required=("checkpoint=my_run",),
)

WRAP = Verb(
    name="wrap",
    summary="take a pretrained pipeline of diffusers as a checkpoint",
    description=(
        "Read a pretrained text-to-image pipeline of diffusers (Stable Diffusion 1 to 3, Flux, "
        "Sana, Lumina 2, PixArt) and write it as a checkpoint: time, sign, prediction, latent "
        "scale and shifted steps are brought into our convention, and its samples are those of "
        "its own pipeline. Sampling, distilling, editing and exporting then work as for any model. "
        "Its text encoders stay where they are, so the checkpoint is used with trust_code=true."
    ),
    command="flowgen wrap pretrained=my_pipeline",
    overrides=(
        Example("pretrained=my_pipeline", "folder of diffusers, or name on the hub"),
        Example("size=512", "side of the images in pixels"),
        Example("text_length=128", "most tokens of a prompt"),
        Example("told_guidance=3.5", "scale that a guidance-distilled model is told"),
        Example("out=pretrained.safetensors", "where to write"),
    ),
    required=("pretrained=my_pipeline",),
)
