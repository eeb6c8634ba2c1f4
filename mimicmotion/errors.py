"""The failures a user can cause or mend, each with the exit code that a script ends with."""

INTERRUPTED = 130  # exit code after Ctrl-C or a polite kill


class MimicMotionError(Exception):
    """A failure with a message for the user: what is wrong, where, and what to do. Exit code 1."""

    exit_code = 1


class InputError(MimicMotionError):
    """One input (a video, an image, a latent file) cannot be used; other inputs are not affected."""


class UsageError(MimicMotionError):
    """The command line or the configuration is wrong; nothing was started."""

    exit_code = 2


class SetupError(MimicMotionError):
    """The machine lacks something: weights, disk space, a writable folder, a device, a package."""

    exit_code = 3


class NumericalError(MimicMotionError):
    """Latents or frames contain NaN or infinity; the message names the stage and the step."""
