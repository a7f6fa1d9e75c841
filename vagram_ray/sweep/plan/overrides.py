"""Changes to a sweep's configuration: ``--set key=value`` and ``Scale.overrides``.

Values on the command line are Python literals. What is no literal is a string:

    --set utd_ratio=5                          one number
    --set model_loss=mse                       one string
    --set critic_hidden_sizes=[64,64]          one value that is a list
    --set model_loss=grid(vagram,nll)          an axis: one cell for each value
    --set env_config.gravity=9.81              one key inside a dictionary
    --set 'env_config={"gravity":9.81}'        a whole dictionary in the place of the sweep's; {} empties it

    --set model_size=2x64                      one named variant of the sweep (or several: grid(...))

An axis of the sweep that is set to one value is no axis any more.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vagram_ray.sweep.spec import MAX_SEEDS, Sweep, SweepError, describe, seed_tuple
from vagram_ray.text import did_you_mean

if TYPE_CHECKING:
    from vagram_ray.rllib import MBPOConfig

_WORDS = {"true": True, "false": False}  # not "none": that is a model loss
_DICTIONARIES = ("env_config", "evaluation_config", "model_loss_options")
_HINTS = {
    "batch_size": "RLlib calls it train_batch_size_per_learner",
    "lr": "the step sizes are actor_lr, critic_lr, alpha_lr and model_lr",
    "env_workers": "environments step in the trial's own process; leave it out",
    "epochs": "the length is not part of the configuration; give --epochs or Scale(epochs=...)",
    "seed": "the seeds are the sweep's; give --seeds or Scale(seeds=...)",
    "seeds": "the seeds are the sweep's; give --seeds or Scale(seeds=...)",
}


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """``["key=value", ...]`` from the command line as a dictionary. The last value of a key counts.

    Raises ``SweepError`` for an entry without a key or an equals sign, or a grid without values.
    """
    parsed: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise SweepError(f"--set {assignment!r} is not usable: write it as key=value, for example utd_ratio=5.")
        parsed[key.strip()] = parse_value(text.strip(), assignment)
    return parsed


def select_variants(
    variants: Mapping[str, Mapping[str, Any]], assignments: Mapping[str, Any]
) -> tuple[dict[str, Mapping[str, Any]], dict[str, Any]]:
    """Take ``--set AXIS=NAME`` and ``--set 'AXIS=grid(NAME, ...)'`` for axes of named variants.

    Returns:
        The variants that are left, and the assignments that are for the configuration.

    Raises:
        SweepError: The axis has no variant of that name.
    """
    chosen = dict(variants)
    for axis in variants.keys() & assignments.keys():
        value = assignments[axis]
        names = value["grid_search"] if isinstance(value, dict) and "grid_search" in value else [value]
        own: dict[str, Any] = {}
        for value in names:
            found = [name for name in variants[axis] if _is_name(name, value)]
            if len(found) != 1:
                raise SweepError(
                    f"--set {axis}={value} is not usable: there are {', '.join(map(str, variants[axis]))}"
                    + (f"; put the one that is meant into quotes, --set '{axis}=\"{found[0]}\"'." if found else ".")
                )
            own[found[0]] = variants[axis][found[0]]
        chosen[axis] = own
    return chosen, {key: value for key, value in assignments.items() if key not in variants}


def _is_name(name: str, value: Any) -> bool:
    """Whether a variant's name, typed on the command line, gives this value."""
    typed = str(name) if isinstance(value, str) else parse_value(str(name))
    return type(typed) is type(value) and bool(typed == value)


def parse_value(text: str, assignment: str = "") -> Any:
    """One value: a literal, a bracketed list of values, ``grid(...)`` for an axis, or else a string."""
    grid = re.fullmatch(r"grid\((.*)\)", text, flags=re.DOTALL)
    if grid:
        values = [parse_value(part, assignment) for part in _split(grid.group(1))]
        if not values:
            raise SweepError(f"--set {assignment or text!r} is not usable: grid(...) needs at least one value.")
        return {"grid_search": values}
    try:
        return ast.literal_eval(text)
    except TypeError as error:
        raise SweepError(
            f"--set {assignment or text!r} is not usable: {text} is no value; write a dictionary as {{'name': 1}}, and "
            "a list as [64,64]."
        ) from error
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        pass
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if text[:1] + text[-1:] in ("[]", "()"):
        values = [parse_value(part) for part in _split(text[1:-1])]
        return values if text[0] == "[" else tuple(values)
    return text


def _split(text: str) -> list[str]:
    """Parts between the commas that stand outside brackets and quotes."""
    parts, depth, quote, start = [], 0, "", 0
    for position, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    parts.append(text[start:])
    return [part.strip() for part in parts if part.strip()]


def parse_seeds(text: str) -> tuple[int, ...]:
    """``"8"`` (seeds 0 to 7), ``"0-7"``, ``"3,5,9"`` or a mixture such as ``"0-3,8"`` as a tuple of seeds.

    Raises ``SweepError`` for anything else and for a seed that is named twice.
    """
    refusal = SweepError(
        f"--seeds {text!r} is not usable: give a number of seeds (8), a range (0-7) or a list (3,5,9), "
        f"at most {MAX_SEEDS:,} of them."
    )
    try:
        if re.fullmatch(r"\s*\d+\s*", text):
            return seed_tuple(int(text))
        seeds: list[int] = []
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            bounds = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
            if bounds is None:
                raise refusal
            first, last = int(bounds[1]), int(bounds[2] or bounds[1])
            if last < first or len(seeds) + last - first >= MAX_SEEDS:
                raise refusal
            seeds.extend(range(first, last + 1))
        return seed_tuple(seeds)
    except ValueError:
        raise refusal from None


def with_overrides(sweep: Sweep, overrides: Mapping[str, Any], source: str) -> Sweep:
    """A copy of ``sweep`` with the given keys of its configuration replaced, also where its variants set them.

    Raises:
        SweepError: As ``apply_overrides``.
    """
    variants = {
        axis: {name: _overridden(settings, overrides) for name, settings in named.items()}
        for axis, named in sweep.variants.items()
    }
    return replace(sweep, config=apply_overrides(sweep.config, overrides, source), variants=variants)


def _overridden(settings: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What a variant sets, with those of the overrides that are about the same keys of the configuration after it."""
    own = {key.partition(".")[0] for key in settings}
    kept = {key: value for key, value in settings.items() if key not in overrides}
    return kept | {key: value for key, value in overrides.items() if key.partition(".")[0] in own}


def apply_overrides(config: MBPOConfig, overrides: Mapping[str, Any], source: str) -> MBPOConfig:
    """A copy of ``config`` with the given keys replaced. ``source`` names them in an error message.

    Raises ``SweepError`` for a key that the configuration does not have, with the closest names, and for a value
    that it does not take.
    """
    changed = config.copy(copy_frozen=False)
    known = type(config).known_keys()
    update: dict[str, Any] = {}
    for key, value in overrides.items():
        field, _, inner = key.partition(".")
        if field not in known or field in ("seeds", "seed"):
            raise SweepError(f"{source} {key!r} is not usable: {_unknown(field, known)}.")
        if not inner:
            if field in _DICTIONARIES and not isinstance(value, Mapping) and not _is_random(value):
                raise SweepError(
                    f"{source} {key}={value!r} is not usable: it needs a dictionary such as {{'name': 1}}; "
                    f"a single entry is set with {key}.name=1."
                )
            update[field] = value
            continue
        try:
            update[field] = _with_entry(update.get(field, getattr(changed, field, None)), key, field, value)
        except TypeError as error:
            raise SweepError(f"{source} {key!r} is not usable: {error}.") from error
    try:
        return with_values(changed, update)
    except Exception as error:  # RLlib's setters check little and fail in many ways
        shown = ", ".join(f"{key}={value!r}" for key, value in overrides.items())
        raise SweepError(f"{source} {shown} is not usable: {describe(error)}") from error


def _with_entry(container: Any, key: str, place: str, value: Any) -> dict[Any, Any]:
    """A copy of a dictionary with one entry of it, or of the dictionaries inside, replaced.

    Args:
        container: The dictionary, or what stands for an empty one.
        key: ``env_config.task.gravity``.
        place: The part of the key that names the dictionary.
        value: The new one.

    Raises:
        TypeError: One of them is no dictionary.
    """
    container, rest = container or {}, key.removeprefix(f"{place}.")
    if not isinstance(container, Mapping) or set(container) == {"grid_search"}:
        raise TypeError(f"{place} is not a dictionary, so set {place} itself")
    names = {str(name): name for name in container}
    if "." not in rest or rest in names:
        return {**container, names.get(rest, rest): value}
    first = rest.partition(".")[0]
    own = names.get(first, first)
    return {**container, own: _with_entry(container.get(own), key, f"{place}.{first}", value)}


def with_values(config: MBPOConfig, values: Mapping[str, Any]) -> MBPOConfig:
    """``config`` itself with these values in the place of its own. RLlib would merge dictionaries into those there."""
    if "env_config" in values:
        config.env_config = {}
    if "evaluation_config" in values:
        config.evaluation_config = None
    return config.update_from_dict(dict(values))


def resolve_extensions(config: MBPOConfig, directory: Path) -> MBPOConfig:
    """A copy of the configuration whose relative extension files are looked for in ``directory``."""
    extensions: Any = config.extensions
    extensions = (extensions,) if isinstance(extensions, str) else extensions
    if not isinstance(extensions, (list, tuple)) or not extensions:
        return config
    resolved = tuple(str(directory.resolve() / name) if str(name).endswith(".py") else name for name in extensions)
    return config.copy(copy_frozen=False).update_from_dict({"extensions": resolved})


def _is_random(value: Any) -> bool:
    from ray.tune.search.sample import Domain

    return isinstance(value, Domain)


def _unknown(key: str, known: Collection[str]) -> str:
    if key in _HINTS:
        return _HINTS[key]
    hint = did_you_mean(key, known).rstrip("?") or "see vagram_ray.core.settings for the keys"
    return f"MBPOConfig has no such key; {hint}"
