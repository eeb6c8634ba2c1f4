"""Models of the hub: what is a name there, the local copies first, and what to do when the hub gives nothing."""

import contextlib
import contextvars
import json
import logging
import os
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path

from mimicmotion.config import shortened
from mimicmotion.errors import SetupError, machine_reason

log = logging.getLogger(__name__)

SVD_FOLDER = Path("models") / "SVD"
ELSEWHERE = (
    "fetch the weights with scripts/download_weights.py on a machine with access and copy them here, "
    "or correct the path"
)
# What HTTP clients call the end of a connection before that of the body.
BROKEN_OFF = {"RemoteProtocolError", "ReadError", "ReadTimeout", "IncompleteRead", "ChunkedEncodingError"}
_offline: contextvars.ContextVar[bool] = contextvars.ContextVar("offline", default=False)


def is_hub_id(name: str) -> bool:
    """Whether `name` has the form owner/name of a model on the hub and is no path of this machine."""
    parts = str(name).split("/")
    return len(parts) == 2 and all(parts) and not set("\\:~") & set(str(name)) and parts[0] not in (".", "..")


def local_copy(name: str) -> Path | None:
    """Where scripts/download_weights.py puts the base model `name` of the hub, if it is there; says so in the log."""
    folder = SVD_FOLDER / name.split("/")[-1]
    if not os.path.isdir(folder):
        return None
    log.info("%s: using the copy in %s", name, folder)
    return folder


@contextlib.contextmanager
def without_network() -> Iterator[None]:
    """Within, `from_hub` takes what the local cache has and asks nobody for the rest."""
    token = _offline.set(True)
    try:
        yield
    finally:
        _offline.reset(token)


def from_hub(
    name: str, fetch: Callable[..., str], complete: Callable[[Path], bool] | None = None, **options
) -> Path:
    """Calls a download function of huggingface_hub for the model `name`, first without the network, then with.

    Args:
        fetch: `hf_hub_download` or `snapshot_download`, called with `name` and `options`.
        complete: tells whether what the local cache has is enough; without it anything found is.

    Raises: SetupError that says how to get access when the model is gated, absent or the hub out of reach.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        with contextlib.suppress(LocalEntryNotFoundError):
            path = Path(fetch(name, local_files_only=True, **options))
            if complete is None or complete(path):
                return path
        if _offline.get():
            raise SetupError(f"{name} is neither a local folder nor cached; only a run asks the hub for it")
        log.info("%s is not, or not wholly, in the local cache; asking the hub", name)
        return Path(fetch(name, **options))
    except hub_errors() as error:
        raise SetupError(explain_hub_error(name, error)) from error


def hub_errors() -> tuple[type[Exception], ...]:
    """What calls to the hub raise when the network, the access, the name or the answer is the trouble."""
    from huggingface_hub.errors import HfHubHTTPError

    transport_error = HfHubHTTPError.__bases__[0]  # the HTTP client's own base class; the client varies by version
    return OSError, ValueError, transport_error


def explain_hub_error(name: str, error: Exception, elsewhere: str = ELSEWHERE) -> str:
    """One sentence or two on why the hub did not give `name`, and what to do.

    Args:
        elsewhere: what to do where the hub cannot be reached.
    """
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    page = f"https://huggingface.co/{name}"
    if isinstance(error, GatedRepoError):
        return f"{name} is gated: accept its licence on {page} while logged in, then run `hf auth login` here"
    if isinstance(error, RepositoryNotFoundError):
        return f"{name} is neither a local folder nor a model on the hub (or it is private: run `hf auth login`)"
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return f"{name} on the hub lacks the file that is needed: {error}"
    known = next(filter(None, map(_explain_cause, _causes(error))), None)
    if known:
        return f"{name}: {known}"
    return f"{name} is neither a local folder nor cached, and the hub is out of reach; {elsewhere}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised from: the hub's library wraps what the network said."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _explain_cause(error: BaseException) -> str | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, json.JSONDecodeError):
        return "what answers is not the hub, perhaps a network's log-in page (its answer is no JSON); open a browser"
    if status == HTTPStatus.TOO_MANY_REQUESTS or (status or 0) >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return f"the hub is there and answers HTTP {status}; try again later"
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return f"the hub answers HTTP {status}; run `hf auth login` here"
    if (status or 0) >= HTTPStatus.BAD_REQUEST:
        return f"the hub answers HTTP {status}: {shortened(error)}"
    if type(error).__name__ in BROKEN_OFF or "Consistency check failed" in str(error):
        return f"the download broke off ({shortened(error)}); try again, it goes on where it stopped"
    reason = machine_reason(error)
    return f"cannot write {getattr(error, 'filename', None) or 'the download'}: {reason}" if reason else None
