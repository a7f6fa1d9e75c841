"""A setting stands at one place: its field says type, range and group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pytest

from vagram_ray.core.setting_checks import Schedule, SettingsError, check_fields, fields_of_group, setting


@dataclass(frozen=True)
class Settings:
    size: int = setting(3, group="sizes", low=1)
    share: float = setting(0.5, above=0, below=1, hint="; try a half")
    limit: int | None = setting(None, group="sizes", low=2)
    kind: Literal["a", "b"] | float = setting("a", low=0, high=1)
    on: bool = False
    name: str = "x"
    widths: tuple[int, ...] = (8,)
    mix: Schedule = setting((0, 1, 0.0, 1.0), low=0, high=1)  # noqa: RUF009
    options: Mapping[str, float] = setting({})

    def __post_init__(self) -> None:
        check_fields(self)


def test_the_group_stands_at_the_field() -> None:
    assert fields_of_group(Settings, "sizes") == {"size", "limit"}


@pytest.mark.parametrize(
    ("name", "value", "needs"),
    [
        ("size", 0, "a whole number of at least 1"),
        ("size", True, "a whole number of at least 1"),
        ("size", 2.0, "a whole number of at least 1"),
        ("share", 0, "a number above 0 and below 1; try a half"),
        ("share", float("nan"), "a number above 0 and below 1; try a half"),
        ("limit", 1, "a whole number of at least 2 or None"),
        ("kind", "c", "'a', 'b' or a number between 0 and 1"),
        ("kind", 1.5, "'a', 'b' or a number between 0 and 1"),
        ("on", 1, "True or False"),
        ("name", 1, "a text"),
        ("widths", (8, 0), "one positive whole number per hidden layer, for example (256, 256)"),
        ("mix", (0, 1, 0, 2), "(first_epoch, last_epoch, first_value, last_value) with first <= last epoch and values "
                              "between 0 and 1"),
        ("options", [1], "numbers by name, for example {'mse_weight': 0.01}"),
    ],
)  # fmt: skip
def test_a_value_out_of_its_type_or_range_is_refused_in_one_sentence(name: str, value: object, needs: str) -> None:
    with pytest.raises(SettingsError) as error:
        Settings(**{name: value})  # type: ignore[arg-type]
    assert str(error.value) == f"{name}={value!r} is not usable: {name} needs {needs}."


def test_what_is_usable_is_kept_as_tuples_and_copies() -> None:
    options = {"weight": 2.0}
    kept = Settings(size=1, share=0.1, limit=2, kind=1, widths=[4, 4], mix=[0, 2, 1, 1], options=options)  # type: ignore[arg-type]
    options["weight"] = 3.0
    assert (kept.widths, kept.mix, kept.options) == ((4, 4), (0, 2, 1, 1), {"weight": 2.0})
    assert Settings(kind=0.5).kind == 0.5 and Settings().limit is None
