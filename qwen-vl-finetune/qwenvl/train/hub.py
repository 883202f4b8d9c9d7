"""Whether a model that is no folder here can be had at all: said in seconds, before anything heavy is loaded.

The hub's own client tries again and again where there is no network, for half a minute and a file.
"""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from pathlib import Path

from driving.errors import DrivingError

TIMEOUT_S = 5.0


def check_findable(
    name: str, commit: str = "", cache_dir: str | None = None, *, file_name: str = "config.json"
) -> None:
    """Raise unless `name` is a folder here, in the hub's cache, or may be had from the hub.

    Args:
        file_name: that the cache must have.

    Raises:
        DrivingError: It is no folder, not in the cache, and no name at the hub or the hub cannot be reached.
    """
    if Path(name).is_dir():
        return
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(name, file_name, cache_dir=cache_dir, revision=commit or "main")
    except HFValidationError as error:
        raise DrivingError(
            f"{name} is no folder here, and no name that a model at the hub can have; give a model folder or a hub name"
        ) from error
    if isinstance(cached, str):
        return
    reason = explain_unreachable()
    if reason:
        raise DrivingError(
            f"{name} is no folder here and not in the cache of Hugging Face, and the hub cannot be reached ({reason}); "
            "mend the name, or download the model where there is network and give its folder"
        )


def explain_unreachable() -> str:
    """Why nothing can be had from the hub; "" where it answers, whatever it says."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=TIMEOUT_S).close()
    except urllib.error.HTTPError:
        return ""
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLError):
            return ""  # its client may know the certificate
        return str(getattr(error.reason, "strerror", None) or error.reason)
    except OSError as error:  # the answer broke off or did not come
        return str(error) or type(error).__name__
    return ""
