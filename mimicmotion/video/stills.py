"""Still pictures as 8-bit RGB, whatever they are stored as."""

from collections.abc import Callable, Iterator

import numpy as np

WHITE = (255, 255, 255)
BAND_PIXELS = 1 << 22  # converted together, so that memory beside picture and result stays small
# Floats that exceed 1 by less than this are still taken as 0..1: resampling overshoots, and highlights do.
OVERSHOOT = 2
# Of TIFF.
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
WHITE_IS_ZERO, UNSIGNED = 0, (1,)
# Grey of 12 bits, and of 16 bits with a sign: bits and Pillow's mode -> the largest value.
WHITE_OF_BITS = {(12, "I;16"): 4095, (16, "I"): 32767}


def as_rgb(image, background: tuple[int, int, int] = WHITE, reduce: int = 1) -> np.ndarray:
    """A Pillow image of any mode as uint8 (height, width, 3), RGB, of the caller's own.

    Grey of 16 bits, and what Pillow keeps as 32-bit integers or floats, is scaled to 8 bits; where the picture is
    transparent, `background` (R, G, B) shows. Squares of `reduce` pixels a side become one, their mean.
    """
    from PIL import Image

    convert = _converter(image, background)
    height, width = (-(-side // reduce) for side in (image.height, image.width))
    pixels = np.empty((height, width, 3), np.uint8)
    for top, band in _bands(image, reduce):
        rgb = convert(band)
        if reduce > 1:
            rgb = np.asarray(Image.fromarray(rgb).reduce(reduce))
        pixels[top // reduce :][: len(rgb)] = rgb
    return pixels


def _bands(image, multiple: int) -> Iterator:
    """The image in pieces of full width, from the top, with the first row of each, a multiple of `multiple`."""
    rows = max(1, BAND_PIXELS // (image.width * multiple)) * multiple
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _converter(image, background: tuple[int, int, int]) -> Callable:
    """The function that makes a piece of `image` uint8 (height, width, 3)."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _grey_converter(image, background)
    if image.mode == "LAB":
        return _lab_to_rgb
    if image.has_transparency_data:
        return lambda piece: laid_on(np.asarray(piece.convert("RGBA")), background)
    return lambda piece: np.asarray(piece.convert("RGB"))


def laid_on(rgba: np.ndarray, background: tuple[int, int, int] = WHITE) -> np.ndarray:
    """uint8 (height, width, 4), RGBA, laid on `background`: uint8 (height, width, 3)."""
    alpha = rgba[..., 3:].astype(np.uint16)
    mixed = rgba[..., :3] * alpha + np.array(background, np.uint16) * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


def _lab_to_rgb(piece) -> np.ndarray:
    from PIL import ImageCms

    profiles = (ImageCms.createProfile(space) for space in ("LAB", "sRGB"))
    return np.asarray(ImageCms.profileToProfile(piece, *profiles, outputMode="RGB"))


# ----------------------------------------------------------------------------------------------------
# Grey of more than 8 bits


def _grey_converter(image, background: tuple[int, int, int]) -> Callable:
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(BITS_PER_SAMPLE, (0,))[0]
    # Pillow keeps them in signed integers, bit by bit.
    unsigned = image.mode == "I" and bits == 32 and tags.get(SAMPLE_FORMAT, UNSIGNED) == UNSIGNED

    def values_of(piece) -> np.ndarray:
        values = np.asarray(piece)
        return values.view(np.uint32) if unsigned else values

    white = WHITE_OF_BITS.get((bits, image.mode)) or white_of(values_of(piece) for _, piece in _bands(image, 1))
    inverted = tags.get(PHOTOMETRIC) == WHITE_IS_ZERO
    clear = image.info.get("transparency")

    def convert(piece) -> np.ndarray:
        values = values_of(piece)
        grey = grey_to_8_bits(values, white)
        rgb = np.repeat((255 - grey if inverted else grey)[..., None], 3, axis=2)
        if isinstance(clear, int):
            rgb[values == clear] = background
        return rgb

    return convert


def white_of(pieces) -> float:
    """The value that is white in grey pictures, given as arrays of 16 or 32-bit integers or of floats.

    65535 in 16 bits. For the rest the format does not say where white is: it is the smallest of 1 (floats), 255, 65535
    and 2**32 - 1 that no value exceeds; floats may exceed 1 a little.
    """
    largest, floats = 0.0, False
    for values in pieces:
        if values.dtype.itemsize == 2:
            return 65535
        floats = values.dtype.kind == "f"
        largest = max(largest, float(_finite(values).max(initial=0)))
    if floats and largest < OVERSHOOT:
        return 1
    return next((white for white in (255, 65535, 2**32 - 1) if largest <= white), largest)


def grey_to_8_bits(values: np.ndarray, white: float) -> np.ndarray:
    """(height, width) of integers or floats, of which `white` is white, as uint8; what is not finite is black."""
    return np.clip(_finite(values) * (255 / white) + 0.5, 0, 255).astype(np.uint8)


def _finite(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)
