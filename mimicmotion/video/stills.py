"""Still pictures as 8-bit RGB, whatever they are stored as."""

import numpy as np

WHITE = (255, 255, 255)


def as_rgb(image, background: tuple[int, int, int] = WHITE) -> np.ndarray:
    """A Pillow image of any mode as uint8 (height, width, 3), RGB, of the caller's own.

    Grey of 16 bits, and what Pillow keeps as 32-bit integers or floats, is scaled to 8 bits; where the picture is
    transparent, `background` (R, G, B) shows.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        grey = grey_to_8_bits(np.asarray(image))
        return np.repeat(grey[..., None], 3, axis=2)
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA")).astype(np.uint16)
        alpha = rgba[..., 3:]
        mixed = rgba[..., :3] * alpha + np.array(background, np.uint16) * (255 - alpha)
        return ((mixed + 127) // 255).astype(np.uint8)
    return np.array(image.convert("RGB"))


def grey_to_8_bits(values: np.ndarray) -> np.ndarray:
    """(height, width) of 16 or 32-bit integers or of floats, as uint8.

    16-bit integers go to 65535. For the rest the format does not say where white is: it is the smallest of 1 (floats),
    255, 65535 and 2**32 - 1 that no value exceeds. What is not finite is black.
    """
    whites = (1,) if values.dtype.kind == "f" else ()
    if values.dtype.itemsize == 2:
        whites = (65535,)
    else:
        whites += (255, 65535, 2**32 - 1)
    values = np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)
    largest = values.max(initial=0)
    white = next((white for white in whites if largest <= white), largest)
    return np.clip(values * (255 / white) + 0.5, 0, 255).astype(np.uint8)
