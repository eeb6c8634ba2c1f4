"""What clips are measured with: which files these are, known before any of them is opened, and what each opens to."""

from functools import cached_property
from typing import TYPE_CHECKING

from mimicmotion.animation import Models
from mimicmotion.config import Config
from mimicmotion.errors import SetupError
from mimicmotion.evaluation import brought
from mimicmotion.evaluation.perceptual_weights import find_st_lpips
from mimicmotion.files import cached_sha256
from mimicmotion.weights import image_encoder_sha256

if TYPE_CHECKING:
    from mimicmotion.evaluation.identity import PictureEncoder
    from mimicmotion.evaluation.perceptual import StLpips

BLOCK = 16  # frames that are held at once
DIGITS = 6  # decimals of every number


class Instruments:
    """What clips are measured with. Making it opens nothing and imports no torch.

    Attributes:
        hashes: of the files of all instruments, by measure; "poses" is the detector's fingerprint.
        absent: measures that nothing is there for, with the reason.

    Raises: UsageError and SetupError for what is wrong with any of the files.
    """

    def __init__(self, config: Config):
        self.config, self.models, self.absent = config, Models(config), {}
        self.hashes = {"poses": self.models.detector_fingerprint, "clip": image_encoder_sha256(config)}
        try:
            self.hashes["st_lpips"] = cached_sha256(find_st_lpips())
        except SetupError as error:
            self.absent["st_lpips"] = str(error)
        self.hashes |= brought.brought_files(config.evaluation)

    @cached_property
    def encoder(self) -> "PictureEncoder":
        """The model's image encoder."""
        from mimicmotion.evaluation.identity import PictureEncoder

        return PictureEncoder(self.config, self.models.device, self.models.dtype)

    @cached_property
    def st_lpips(self) -> "StLpips":
        """ST-LPIPS."""
        from mimicmotion.evaluation.perceptual import StLpips

        return StLpips(find_st_lpips())

    @cached_property
    def i3d(self) -> brought.Features:
        """The user's I3D."""
        return brought.open_i3d(self.config.evaluation, str(self.models.device))

    @cached_property
    def fid_vid(self) -> brought.Features:
        """The user's 3D ResNet-50."""
        return brought.open_fid_vid(self.config.evaluation)

    @cached_property
    def arcface(self) -> brought.Features:
        """The user's ArcFace."""
        return brought.open_arcface(self.config.evaluation)

    def open(self) -> None:
        """Opens what the user brought, so that a wrong file is told before the first clip. Raises: SetupError."""
        for name, instrument in (("fvd", "i3d"), ("fid_vid", "fid_vid"), ("csim", "arcface")):
            if name in self.hashes:
                getattr(self, instrument)


def rounded(value: float | None) -> float | None:
    """As it is written; None for what has no value."""
    return None if value is None else round(float(value), DIGITS)
