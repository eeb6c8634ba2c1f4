"""The tensors of a LoRA by what they are, under the names that various tools and versions gave them.

    NAME.lora_A.weight, NAME.lora_A.ADAPTER.weight      PEFT, and diffusers since it uses it
    NAME.lora.down.weight, NAME.lora_linear_layer.down.weight, ATTENTION.processor.to_q_lora.down.weight
                                                        diffusers before
    lora_unet_NAME_WITH_UNDERSCORES.lora_down.weight    kohya, with .alpha beside it

What stands around NAME is taken off by `layouts.plain_name`. Nothing here reads a tensor or imports torch.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from mimicmotion.weights.layouts import plain_name

KOHYA_PREFIX = "lora_unet_"
HALVES = {"lora_A": "down", "lora_down": "down", "down": "down", "lora_B": "up", "lora_up": "up", "up": "up"}
HALF = re.compile(
    r"(?P<module>.+)\.(?:"
    r"(?P<half>lora_A|lora_B|lora_down|lora_up)(?:(?:\.(?P<adapter>[^.]+))?\.weight|\.default)?"
    r"|(?:lora|lora_linear_layer)\.(?P<older>down|up)\.weight"
    r"|(?P<projection>to_q|to_k|to_v|to_out)_lora\.(?P<oldest>down|up)\.weight)"
)
ALPHA = re.compile(r"(?P<module>.+?)(?:\.(?:lora|lora_linear_layer))?\.alpha(?:\.default)?(?:\.weight)?")
PROJECTION = re.compile(r"(?P<attention>.+)\.(?P<projection>to_q|to_k|to_v|to_out)_lora")


class LoraKey(NamedTuple):
    """What a key names: "down", "up" or "alpha" of a module, by its plain name or, from kohya, one with underscores."""

    module: str
    part: str
    adapter: str | None = None


def read_key(key: str) -> LoraKey | None:
    """What a key of a LoRA file names; None where it is no part of a LoRA that is known here."""
    if match := HALF.fullmatch(key):
        half = match["half"] or match["older"] or match["oldest"]
        module = match["module"]
        if match["projection"]:
            module = f"{module}.{match['projection']}_lora"
        return LoraKey(_module(module), HALVES[half], match["adapter"])
    if match := ALPHA.fullmatch(key):
        return LoraKey(_module(match["module"]), "alpha")
    return None


def _module(name: str) -> str:
    if match := PROJECTION.fullmatch(name):
        # The oldest names are those of a processor beside the layers, whose last projection is a list of two.
        attention = match["attention"].removesuffix(".processor")
        name = f"{attention}.{match['projection']}{'.0' if match['projection'] == 'to_out' else ''}"
    return plain_name(name).removeprefix(KOHYA_PREFIX)


def is_lora(keys: Iterable[str]) -> bool:
    """Whether keys name a half of a LoRA."""
    return any(HALF.fullmatch(key) for key in keys)
