"""What tests of latents and of those who start from them do alike."""


def distil(distiller, data, prior, trainer, root):
    distiller.attach(data, prior=prior)
    return distiller.run(trainer, root)[0]


def latent_files(root):
    return sorted((root / "latents").rglob("*.safetensors"))


def forbid(thing, name):
    def refuse(*args, **kwargs):
        raise AssertionError(f"{name} was called")

    setattr(thing, name, refuse)
