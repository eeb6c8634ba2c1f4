"""Models of the hub: what is a name there, the local copies first, and what to do when the hub gives nothing."""

import contextlib
import contextvars
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from mimicmotion.config import shortened
from mimicmotion.errors import LASTING, MACHINE_ERRORS, SetupError, machine_reason

log = logging.getLogger(__name__)

SVD_FOLDER = Path("models") / "SVD"
HUB = "https://huggingface.co"
ENDPOINT = "HF_ENDPOINT"  # the variable with which huggingface_hub asks another address
ELSEWHERE = (
    "fetch the weights with scripts/download_weights.py on a machine with access and copy them here, "
    "or correct the path"
)
# What huggingface_hub raises when the store of large files, which has an address of its own, gives nothing.
STORE_FAILED = {"RuntimeError", "XetDownloadError", "XetAuthenticationError", "XetObjectNotFoundError"}
# What HTTP clients call the end of a connection before that of the body.
BROKEN_OFF = {"RemoteProtocolError", "ReadError", "ReadTimeout", "IncompleteRead", "ChunkedEncodingError"}
_offline: contextvars.ContextVar[bool] = contextvars.ContextVar("offline", default=False)


def is_hub_id(name: str) -> bool:
    """Whether `name` has the form owner/name of a model on the hub and is no path of this machine."""
    parts = str(name).split("/")
    return len(parts) == 2 and all(parts) and not set("\\:~") & set(str(name)) and parts[0] not in (".", "..")


def mirror() -> str | None:
    """The address that is asked instead of the hub's own, from HF_ENDPOINT, without a password; None: the hub's.

    Raises: SetupError where HF_ENDPOINT is no address.
    """
    text = os.environ.get(ENDPOINT)
    if text is None or text.rstrip("/") == HUB:
        return None
    with contextlib.suppress(ValueError):
        parts = urlsplit(text)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not set(text) & set(" \t\n"):
            return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
    raise SetupError(f"{ENDPOINT} is {shortened(text)!r}, which is no address; write https://NAME, or unset it")


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
    """What calls to the hub raise when the network, the access, the name or the answer is the trouble.

    RuntimeError: the store of large files is out of reach. ImportError: the proxy needs a package.
    """
    from huggingface_hub.errors import HfHubHTTPError

    transport_error = HfHubHTTPError.__bases__[0]  # the HTTP client's own base class; the client varies by version
    return OSError, ValueError, RuntimeError, ImportError, transport_error


def explain_hub_error(name: str, error: Exception, elsewhere: str = ELSEWHERE) -> str:
    """One sentence or two on why the hub did not give `name`, and what to do.

    Args:
        elsewhere: what to do where neither the hub nor a mirror can be reached.

    Raises: SetupError where HF_ENDPOINT is no address.
    """
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    address = mirror()
    where = f"the mirror {address} ({ENDPOINT})" if address else "the hub"
    if isinstance(error, GatedRepoError):
        token = f"; {where} must pass your token on, and sees it" if address else ""
        page = f"{HUB}/{name}"
        return f"{name} is gated: accept its licence on {page} while logged in, then run `hf auth login` here{token}"
    if isinstance(error, RepositoryNotFoundError):
        return f"{name} is neither a local folder nor a model on {where} (or it is private: run `hf auth login`)"
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return f"{name} on {where} lacks the file that is needed: {error}"
    if isinstance(error, ImportError):
        return f"{name}: the hub's library lacks a package: {error}"
    if type(error).__name__ in STORE_FAILED:
        return f"{name}: {_explain_store(error)}"
    known = next(filter(None, (_explain_cause(cause, where) for cause in _causes(error))), None)
    if known:
        return f"{name}: {known}"
    if any(isinstance(cause, OfflineModeIsEnabled) for cause in _causes(error)):
        remedy = "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set: unset it"
    else:
        remedy = f"set {ENDPOINT} to the address of {'another' if address else 'a'} mirror"
    return f"{name} is neither a local folder nor cached, and {where} is out of reach; {remedy}, {elsewhere}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised from: the hub's library wraps what the network said."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _explain_store(error: Exception) -> str:
    found = re.search(r"\(os error (\d+)\)", str(error))
    written = MACHINE_ERRORS[int(found[1])] if found and int(found[1]) in LASTING else machine_reason(error)
    if written:
        return f"cannot write the download: {written}"
    return (
        f"the store of large files (Xet) gives nothing ({shortened(error)}); it has its own address, which mirrors "
        "may lack: set HF_HUB_DISABLE_XET=1 and run this again"
    )


def _explain_cause(error: BaseException, where: str) -> str | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, json.JSONDecodeError):
        return f"what answers is not {where}, perhaps a network's log-in page (its answer is no JSON); open a browser"
    if status == HTTPStatus.TOO_MANY_REQUESTS or (status or 0) >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return f"{where} is there and answers HTTP {status}; try again later"
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return f"{where} answers HTTP {status}; run `hf auth login` here"
    if (status or 0) >= HTTPStatus.BAD_REQUEST:
        return f"{where} answers HTTP {status}: {shortened(error)}"
    if type(error).__name__ in BROKEN_OFF or "Consistency check failed" in str(error):
        return f"the download broke off ({shortened(error)}); try again, it goes on where it stopped"
    reason = machine_reason(error)
    return f"cannot write {getattr(error, 'filename', None) or 'the download'}: {reason}" if reason else None
