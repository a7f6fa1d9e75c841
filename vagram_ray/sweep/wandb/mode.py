"""What a sweep is asked to do with Weights & Biases: online, offline or not at all, where, with which artifacts.

All of it is settled without a prompt or a network.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

MODES = ("online", "offline", "disabled", "auto")
ARTIFACTS = FIGURES, VIDEO, CHECKPOINT = ("figures", "video", "checkpoint")
"""What can be handed to W&B at a sweep's end (``wandb_artifacts``)."""
_LEFTOVERS = (
    "WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_RESUME", "WANDB_PROJECT", "WANDB_NAME", "WANDB_RUN_GROUP",
    "WANDB_JOB_TYPE", "WANDB_TAGS", "WANDB_NOTES", "WANDB_SWEEP_PARAM_PATH", "WANDB_SERVICE",
)  # fmt: skip
"""Variables of one run or of another program's service, which a sweep has no use for."""
_NOT_IN_NAMES = "/\\#?%:"


def prepare_wandb(mode: str, storage_dir: str | Path) -> str:
    """Settle the W&B mode and set the environment variables for it. Never prompts and never uses the network.

    ``auto`` follows ``WANDB_MODE`` and ``wandb offline``. Where neither asks for offline or disabled, it is online
    with an API key at hand (``WANDB_API_KEY``, an identity token, or the host's entry in netrc) and else offline.
    Sets ``WANDB_MODE``, also ``WANDB_DIR``, ``WANDB_SILENT`` and ``WANDB_CONSOLE`` where the user has not. Removes
    variables of single runs (``WANDB_RUN_ID``, ``WANDB_SWEEP_ID``), with a warning.
    Call it before ``ray.init``: processes that Ray has started by then do not see a later change.

    Returns:
        ``"online"``, ``"offline"`` or ``"disabled"``.

    Raises:
        ValueError: an unknown mode, an unknown ``WANDB_MODE`` under ``auto``, or ``online`` without a usable key.
    """
    if mode not in MODES:
        raise ValueError(f"W&B mode {mode!r} is not known: use one of {', '.join(MODES)}.")
    resolved = _resolve_auto() if mode == "auto" else mode
    if mode == "online" and (problem := key_problem()):
        raise ValueError(f"W&B cannot log online: {problem} Run `wandb login` first, or use --wandb offline.")
    os.environ["WANDB_MODE"] = resolved
    if resolved != "disabled":
        _drop_leftovers()
        os.environ.setdefault("WANDB_DIR", str(Path(storage_dir).expanduser().resolve()))
        os.environ.setdefault("WANDB_SILENT", "true")
        os.environ.setdefault("WANDB_CONSOLE", "off")
    if resolved == "offline":  # wandb's own crash reports are the only thing that would still leave the machine
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    return resolved


def _drop_leftovers() -> None:
    """Remove variables that another program has left: they would give a sweep's runs other ids, or stop logging."""
    left = [name for name in _LEFTOVERS if os.environ.pop(name, None)]
    if told := [name for name in left if name != "WANDB_SERVICE"]:
        logger.warning(
            "W&B: ignored: %s. A sweep's runs have ids of their own, and --wandb-project names the project.",
            ", ".join(told),
        )


def check_project(text: str) -> str:
    """``PROJECT`` or ``ENTITY/PROJECT`` as given.

    Raises:
        ValueError: W&B has no projects of such a name.
    """
    entity, separator, project = text.rpartition("/")
    if not project or (separator and not entity) or set(entity + project) & set(_NOT_IN_NAMES) or len(project) > 128:
        raise ValueError(
            f"--wandb-project {text!r} is not usable: give PROJECT or ENTITY/PROJECT, names of at most 128 characters "
            f"(none of {' '.join(_NOT_IN_NAMES)})."
        )
    return text


def parse_artifacts(text: str) -> tuple[str, ...]:
    """``"figures,video"`` as the kinds it names, ``"all"`` as all of them.

    Raises:
        ValueError: An unknown kind. The message lists those that there are.
    """
    asked = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [kind for kind in asked if kind not in (*ARTIFACTS, "all")]
    if unknown or not asked:
        wrong = repr(unknown[0]) if unknown else "an empty list"
        raise ValueError(f"--wandb-artifacts does not know {wrong}: name some of {', '.join(ARTIFACTS)}, or all.")
    return ARTIFACTS if "all" in asked else tuple(kind for kind in ARTIFACTS if kind in asked)


def _resolve_auto() -> str:
    asked = os.environ.get("WANDB_MODE", "").strip().lower()
    mode = asked or _wandb_settings().mode  # `wandb offline` writes the latter
    if mode in ("offline", "disabled"):
        return mode
    if mode != "online":
        raise ValueError(f"WANDB_MODE={asked!r} is not a W&B mode: set it to online, offline or disabled, or unset it.")
    problem = key_problem()
    if problem and asked:
        logger.warning("WANDB_MODE asks for online, but %s Logging offline; `wandb sync` uploads later.", problem)
    return "offline" if problem else "online"


def key_problem() -> str | None:
    """Why no W&B run can be opened online, or None with a well-formed key at hand (not verified)."""
    from wandb.errors import AuthenticationError
    from wandb.sdk.lib import wbauth

    if os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return None
    try:
        settings = _wandb_settings()
        host = settings.base_url
        key = os.environ.get("WANDB_API_KEY") or wbauth.read_netrc_auth(host=host) or settings.api_key
    except (AuthenticationError, ValueError) as error:
        return f"the key or the server's address cannot be used: {' '.join(str(error).split())[:200]}"
    if not key:
        return f"there is no API key for {host} in WANDB_API_KEY or netrc."
    problem = wbauth.check_api_key(key)
    return f"the API key for {host} is malformed: {problem}" if problem else None


def server_address() -> str:
    """Address of the W&B server that runs go to, by the user's settings, empty where they cannot be used."""
    try:
        return str(_wandb_settings().base_url)
    except ValueError:
        return ""


def server_answers(timeout_s: float) -> bool:
    """Whether the W&B server says anything at all within ``timeout_s``, which wandb itself may wait minutes for.

    A redirect is an answer, wherever it points. Proxies are wandb's own, else those of the environment.
    """
    import requests

    try:
        settings = _wandb_settings()
        own = {"http": settings.http_proxy, "https": settings.https_proxy}
        given = {scheme: os.environ.get(f"WANDB_{scheme.upper()}_PROXY") or proxy for scheme, proxy in own.items()}
        proxies = {scheme: str(proxy) for scheme, proxy in given.items() if proxy}
        address = str(settings.base_url)
        requests.get(address, timeout=timeout_s, stream=True, allow_redirects=False, proxies=proxies).close()
    except requests.exceptions.SSLError:  # wandb may be told to trust it
        return True
    except (requests.RequestException, OSError, ValueError):  # ValueError: the settings cannot be used
        return False
    return True


def _wandb_settings() -> Any:
    """wandb's settings from its files and ``WANDB_BASE_URL``, read afresh: wandb's own copy is frozen at first use."""
    import wandb

    settings = wandb.Settings(silent=True)
    config_dir = os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb"
    with contextlib.suppress(OSError):  # an unreadable settings file is as good as none
        settings.settings_system = str(Path(config_dir).expanduser() / "settings")
        settings.update_from_system_settings()
    if base_url := os.environ.get("WANDB_BASE_URL"):
        settings.base_url = base_url
    return settings
