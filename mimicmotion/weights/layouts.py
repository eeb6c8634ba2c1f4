"""Under which names files hold a network's tensors: what training and other tools put around the names.

Nothing here reads a tensor or imports torch.
"""

from collections.abc import Iterable

from mimicmotion.weights.lookup import broken

# Modules that hold another one while it is trained or compiled; they stand anywhere in a name.
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# Of PEFT's own files, of files for ComfyUI, of diffusers' pipelines. No part of the UNet is called so.
UNET_PREFIXES = ("base_model.model.", "model.diffusion_model.", "diffusion_model.", "unet.")
POSE_NET_PREFIXES = ("pose_net.",)


def plain_name(key: str, prefixes: tuple[str, ...] = UNET_PREFIXES) -> str:
    """The name within the network: without wrappers, and without `prefixes` in whatever order they are nested."""
    name = ".".join(part for part in key.split(".") if part not in WRAPPERS)
    while prefix := next((prefix for prefix in prefixes if name.startswith(prefix)), None):
        name = name.removeprefix(prefix)
    return name


def plainly_named(tensors, keys: Iterable[str] | None = None, prefixes: tuple[str, ...] = UNET_PREFIXES):
    """The tensors of a file, all or those of `keys`, under their plain names.

    Raises: SetupError where two of them have the same: which one is meant cannot be known.
    """
    names: dict[str, str] = {}
    for key in tensors if keys is None else keys:
        other = names.setdefault(plain_name(key, prefixes), key)
        if other != key:
            raise broken(tensors.path, f"holds the same weights twice, as {other} and as {key}")
    return tensors.renamed(names)
