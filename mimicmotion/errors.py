"""The failures a user can cause or mend, each with the exit code that a script ends with."""

import errno

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


OTHER_FOLDER = "or choose another folder"
# What the system says when it lacks something, in words and with the remedy.
MACHINE_ERRORS = {
    errno.ENOSPC: f"the disk is full; free some space {OTHER_FOLDER}",
    errno.EDQUOT: f"the disk quota is used up; free some space {OTHER_FOLDER}",
    errno.EFBIG: f"a file would be larger than is allowed; raise the limit (ulimit -f) {OTHER_FOLDER}",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "permission is denied; change the permissions, or choose another folder",
    errno.EPERM: "permission is denied; change the permissions, or choose another folder",
    errno.ENOTDIR: f"a file stands where a folder is needed; move it away {OTHER_FOLDER}",
    errno.EEXIST: f"a file stands where a folder is needed; move it away {OTHER_FOLDER}",
    errno.ELOOP: f"links lead in a circle, or lead away where none may; remove them {OTHER_FOLDER}",
    errno.EIO: f"the disk fails (input/output error); look into the system's log, {OTHER_FOLDER}",
    errno.ESTALE: "the network file system has lost the file; run again when it is stable, or choose another folder",
    errno.ETIMEDOUT: "the network file system does not answer; run again when it is stable, or choose another folder",
    errno.ENODEV: f"the device is gone; connect it again {OTHER_FOLDER}",
    errno.ENXIO: f"the device is gone; connect it again {OTHER_FOLDER}",
    errno.EINTR: "a signal cut the call off; run the same command again",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n)",
    errno.ENFILE: "the system has too many files open; end other programs",
    errno.EAGAIN: "no further process or thread can be started; raise the limit (ulimit -u) or end other programs",
}
# With these whatever comes next would fail too.
LASTING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE, errno.ENFILE}
OUT_OF_MEMORY = (
    "memory ran out; free some or raise the limit (ulimit -v), or take less: a lower --resolution or "
    "--decode_chunk_size, --cfg_batch off, on a GPU --offload model"
)
# What numpy, torch on each device, the loader of shared libraries and C++ say; only torch has a type for it.
MEMORY_WORDS = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "alloc_cpu",
    "not enough memory",
    "failed to map segment",
    "bad_alloc",
    "memoryerror",
)


def tells_of_memory(text: str) -> bool:
    """Whether the words of a program or a library say that memory ran out."""
    return any(words in text.lower() for words in MEMORY_WORDS)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, the machine's or a device's."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    native = isinstance(error, RuntimeError | ImportError)
    return isinstance(error, MemoryError) or (native and tells_of_memory(str(error)))


def machine_reason(error: BaseException) -> str | None:
    """What the machine lacked when a system call, Python or torch raised `error`, with the remedy; else None."""
    if is_out_of_memory(error):
        return OUT_OF_MEMORY
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return MACHINE_ERRORS[errno.EAGAIN]
    return MACHINE_ERRORS.get(error.errno) if isinstance(error, OSError) else None


def machine_message(error: BaseException) -> str | None:
    """`machine_reason` with the file that it is about, where that is known."""
    reason, file = machine_reason(error), getattr(error, "filename", None)
    return f"{file}: {reason}" if reason and file else reason


def explain(error: BaseException) -> str:
    """What went wrong, in one line for the user."""
    if isinstance(error, MimicMotionError):
        return str(error)
    return machine_message(error) or f"{type(error).__name__}: {error}"


def is_lasting(error: BaseException) -> bool:
    """Whether all further work would fail the same way, as on a full disk; memory that one input takes is not."""
    # Of a library that did not fit into memory a half stays imported, and the next try fails in other ways.
    if isinstance(error, SetupError | ImportError):
        return True
    return isinstance(error, OSError) and error.errno in LASTING
