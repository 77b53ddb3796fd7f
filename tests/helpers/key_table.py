"""Which stages another value of a key changes, for every key of the schema, with the reason where it is not plain."""

from ddoq.latents.quantization import Quantizer
from ddoq.priors.base import Sampling

STAGES = ("autoencoder", "prior", "teacher", "latents", "shard", "set", "labels", "cell")
NOTHING = ""
SET = "shard set labels cell"
DIT = f"prior {SET}"  # of a method that decodes by the prior
VAE = f"autoencoder latents {DIT}"
TEACHER = "teacher labels cell"  # of a method that needs none
IMAGES = f"{VAE} teacher"
WEIGHTS = "set labels cell"  # how shards become a set
PER_CELL = "cell"

# Of a recipe, what decides labels that are stored.
_LABELLED = (
    *("epochs", "crop_scale", "crop_ratio", "flip", "cutmix_alpha", "color_jitter", "pca_lighting"),
    *("siamese", "label_seed", "label_top_k", "temperature", "cutmix_per", "jitter_clamp"),
    *("pad_crop", "mixup_alpha"),
)
# What follows from another value of a key, and why where that is not plain. A key of the schema that is missing here
# fails the test. `data.*` holds for every dataset, `model.*` for every method unless `model.<Class>.*` says otherwise.
EXPECTED = {
    "config": NOTHING,  # its contents count
    "extends": NOTHING,
    "seed_everything": NOTHING,  # all that decides a number has a seed of its own
    "output": NOTHING,
    "distilled": NOTHING,  # a given set counts by its contents
    "smoke": NOTHING,  # another output
    "force": NOTHING,
    "report": NOTHING,
    "wandb.*": NOTHING,
    "seeds": PER_CELL,
    "students.arch": PER_CELL,
    "students.kwargs": PER_CELL,
    "students.stem": PER_CELL,
    "students.lr": PER_CELL,
    "students.name": NOTHING,  # what tables call it
    "evaluation.ranks": NOTHING,  # on one rank; see tests/ddp
    "evaluation.sync_batchnorm": NOTHING,  # as well
    "evaluation.set_precision": NOTHING,  # of a set that is 8 bit already
    "trainer.*": NOTHING,  # where, not what: the kind of device changes nothing but rounding
    "trainer.precision": PER_CELL,  # of students alone
    "data.root": NOTHING,  # contents count, not places
    "data.path": "hub",  # names a source; see tests/ddoq/data/test_data_huggingface.py
    "data.name": "hub",
    "data.revision": "hub",
    "data.train_split": "hub",
    "data.test_split": "hub",
    "data.train_files": IMAGES,
    "data.test_files": IMAGES,  # the source is hashed as a whole, so that no part sees half of another
    "data.train_folder": IMAGES,
    "data.test_folder": IMAGES,
    "data.image_column": IMAGES,
    "data.label_column": IMAGES,
    "data.image_size": IMAGES,
    "data.limit_per_class": IMAGES,
    "data.registry": IMAGES,  # other classes
    "data.only_present_classes": IMAGES,  # where a class is missing
    "data.test_resize": PER_CELL,  # teachers are measured again, not trained again
    "data.test_limit_per_class": PER_CELL,  # likewise
    "data.mean": "teacher labels cell",  # of networks; a prior takes pixels
    "data.std": "teacher labels cell",
    "data.dataset_name": "set cell",  # a set and a row are called after it
    "data.class_names": "set",  # which lists them
    "data.prompt": NOTHING,  # a prior that reads prompts has them in its fingerprint
    "data.cache_images": NOTHING,
    "data.max_pixels": NOTHING,  # refuses, and changes no pixel
    "data.max_aspect_ratio": NOTHING,
    "data.batch_size": NOTHING,  # of loaders that no training reads from
    "data.num_workers": NOTHING,
    "prior.vae.*": VAE,
    "prior.dit.*": DIT,
    "prior.seed": VAE,
    "prior.precision": VAE,
    "prior.compile": NOTHING,  # rounds otherwise
    # Of a prior that is opened: it is kept nowhere, and what it does enters its fingerprint; see tests/ddoq/priors.
    "prior.path": "opened",
    "prior.dtype": "opened",
    "prior.variant": "opened",
    "prior.allow_pickle": "opened",
    "prior.scheduler": "opened",
    "prior.scheduler_settings": "opened",
    "prior.guided_channels": "opened",
    "prior.classes": "opened",
    "prior.negative_prompt": "opened",
    "prior.vae_slicing": "opened",
    "teacher.*": TEACHER,
    "model.*": SET,
    "model.latent_cache": NOTHING,  # the same bits
    "model.seed": SET,  # `posterior: mode` draws nothing, so that latents stay
    "model.posterior": f"latents {SET}",
    "model.quantizer.km_expand": NOTHING,  # nobody but the quantiser d4m reads it
    "model.quantizer.passes": "refused",  # clvq alone reads it
    "model.quantizer.batch_size": "refused",
    "model.DDOQ.weight_power": WEIGHTS,
    "model.DDOQ.counts": WEIGHTS,
    "model.KMeansSelection.weighted": WEIGHTS,
    "model.KMeansSelection.weight_power": WEIGHTS,
    "model.KMeansSelection.shuffle_weights": WEIGHTS,
    "model.D4M.faithful": f"latents {SET}",  # it draws from the posterior
    "model.SRe2L.ipc": WEIGHTS,  # a smaller set is a part of a larger one
    "model.Herding.seed": WEIGHTS,  # nothing is drawn; sets that repeat one another are told apart
    "model.KCenter.seed": WEIGHTS,
    "recipe.name": PER_CELL,
    "recipe.*": PER_CELL,
    **{f"recipe.{name}": "labels cell" for name in _LABELLED},
}
# Other values where "another number" will not do.
VALUES = {
    "students.kwargs": {"padding": 3},
    "students.stem": "small",
    "students.lr": 0.5,
    "students.name": "another",
    "students.arch": "convnet3-w8",
    "data.prompt": "{name}",
    "data.class_names": ["un", "deux"],
    "data.dataset_name": "another",
    "data.image_size": 24,
    "data.limit_per_class": 1,
    "data.test_limit_per_class": 1,
    "data.test_resize": 18,
    "data.cache_images": False,
    "data.mean": (0.1, 0.2, 0.3),
    "data.std": (0.1, 0.2, 0.3),
    "data.train_folder": "val",
    "data.test_folder": "train",
    "trainer.precision": "bf16-mixed",
    "trainer.accelerator": "auto",
    "prior.precision": "bf16-mixed",
    "teacher.precision": "bf16-mixed",
    "model.precision": "bf16-mixed",
    "prior.vae.channels": (8, 16),
    "prior.dit.prediction": "epsilon",
    "prior.dit.schedule": "linear",
    "prior.dit.patch_size": 1,
    "teacher.arch": "convnet2-w8",
    "teacher.kwargs": {"padding": 3},
    "teacher.stem": "small",
    "teacher.crop_pad": 1,
    "teacher.optimizer": "adamw",
    "model.posterior": "sample",
    "model.counts": "online",
    "model.quantizer.method": "medoid",
    "model.quantizer.backend": "faiss",
    "model.features": "pixel",
    "model.backend": "faiss",
    "model.arch": "convnet2-w8",
    "model.init": "noise",
    "model.augmentation": "color",
    "model.distance": "squared-error",
    "model.loops": (2, 2),
    "model.lr": 0.7,
    "model.crop_scale": (0.5, 1.0),
    "model.faithful": True,
    "model.D4M.quantizer": Quantizer("medoid"),
    "model.DDOQ.quantizer": Quantizer("medoid"),
    "model.D4M.sampling": Sampling(strength=0.5),
    "model.quantizer.batch_size": 32,
    "data.image_column": "image2",
    "data.label_column": "label2",
    "recipe.zeta": 2.0,
    "trainer.strategy": "ddp",
    "recipe.labels": "online",
    "recipe.loss": "ce",
    "recipe.lr": 0.123,
    "recipe.optimizer": "sgd",
    "recipe.schedule": "constant",
    "recipe.lr_by_arch": {"vit": 0.1},
    "recipe.weight_decay_on": "all",
    "recipe.bn_batch": 8,
    "recipe.cutmix_per": "batch",
    "recipe.weights": "sampling",
    "recipe.betas": (0.8, 0.9),
    "recipe.reduction": "weights",
    "recipe.weight_under_cutmix": "base",
    "recipe.milestones": (0.5,),
    "recipe.crop_scale": (0.3, 0.9),
    "recipe.crop_ratio": (0.9, 1.1),
    "recipe.epochs": 5,
    "recipe.batch_size": 7,
    "recipe.siamese": "color",
    "recipe.test_resize": {16: 18},
    "recipe.color_jitter": 0.3,
    "recipe.pca_lighting": 0.1,
    "recipe.cutmix_alpha": 0.3,
    "recipe.label_top_k": 2,
    "recipe.pad_crop": 2,
    "recipe.mixup_alpha": 0.8,
    "recipe.teacher_mode": "train",
    "recipe.warmup": 1,
    "teacher.weight_decay_on": "all",
    "teacher.schedule": "cosine",
    "teacher.crop_scale": (0.5, 1.0),
    "wandb.mode": "disabled",
    "wandb.project": "p",
    "wandb.entity": "e",
    "wandb.group": "g",
    "wandb.tags": ["t"],
    "evaluation.ranks": "ddp",
    "evaluation.set_precision": "uint8",
    "output": "elsewhere",
    "distilled": "given",
    "report": "report.json",
    "extends": ["a.yaml"],
}
# What another key needs beside it.
RIDERS = {
    "recipe.siamese": {"crop_scale": (1.0, 1.0), "flip": False, "cutmix_alpha": 0.0},
    "recipe.labels": {"label_top_k": 0},
    "recipe.weights": {"labels": "online", "label_top_k": 0},
    "recipe.pad_crop": {"crop_scale": (1.0, 1.0)},
    "recipe.mixup_alpha": {"cutmix_alpha": 0.0},
    "recipe.teacher_mode": {"labels": "online", "label_top_k": 0},
}
