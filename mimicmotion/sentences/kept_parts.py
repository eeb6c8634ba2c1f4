"""What was sampled of a sentence, kept on disk until its files are whole, so that a failure behind it loses nothing."""

import json
from collections.abc import Callable

from mimicmotion.animation import OF_DECODING, keep_tensors, kept_tensors, sampling_sha256
from mimicmotion.latent_concat import Part
from mimicmotion.results import Job

# A sentence's timeline is counted in seconds, so its frames are others at another rate.
OF_DECODING_SENTENCES = OF_DECODING | {"test_case": set()}


def keep_parts(job: Job, made_from: dict, parts: list[Part]) -> None:
    """Writes parts beside the sentence to come. Where the disk will not take them a warning says so."""
    facts = [{"name": part.name, "hidden": part.hidden, "is_transition": part.is_transition} for part in parts]
    # A word that comes twice is one tensor, which the file format does not take.
    tensors = {f"{number:06d}": part.latents.clone() for number, part in enumerate(parts)}
    keep_tensors(job, _identity(made_from), tensors, json.dumps(facts))


def kept_parts(job: Job, made_from: Callable[[], dict]) -> list[Part] | None:
    """Parts that an earlier run sampled and did not bring to an end; None where there are none, or others."""
    kept = kept_tensors(job, lambda: _identity(made_from()))
    if kept is None:
        return None
    tensors, facts = kept
    of_each = zip(json.loads(facts), (tensors[name] for name in sorted(tensors)), strict=True)
    return [Part(latents=latents, **said) for said, latents in of_each]


def _identity(made_from: dict) -> str:
    return sampling_sha256(made_from, OF_DECODING_SENTENCES)
