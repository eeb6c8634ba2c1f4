"""How an experiment's steps are decoded unless told otherwise; kept apart so that `--help` can say it at once."""

DEFAULT_DEVICE = "auto"
DEFAULT_FPS = 12
DEFAULT_QUALITY = 7.0
DEFAULT_SCALE = 1.0
DEFAULT_WORKERS = 1
# (quality, scale) by name.
COMPRESS_PRESETS = {
    "high-quality": (7.0, 1.0),
    "balanced": (3.0, 1.0),
    "small-file": (1.0, 0.75),
    "tiny": (0.5, 0.5),
}
