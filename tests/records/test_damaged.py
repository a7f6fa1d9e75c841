"""Damaged and hostile ``sweep.json``: five commands read each, and refuse it in a sentence."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from tests.records.damage import (
    GONE,
    HUGE,
    RAW,
    TRIAL,
    Damage,
    content,
    go_on,
    in_place,
    is_a_sentence,
    run,
    sparse,
    watch,
)
from vagram_ray.commands import InputError
from vagram_ray.play.commandline import main as play
from vagram_ray.records.folder import SweepFolder
from vagram_ray.report.commandline import main as report
from vagram_ray.sweep.summary import main as summarize

pytestmark = pytest.mark.usefixtures("no_figures")


def refusals(folder: Path) -> dict[str, str]:
    """What each command says of a folder that it refuses."""
    said = {}
    for name, command in (("summary", summarize), ("report", report), ("play", play)):
        result = run(command, folder)
        assert result.exit_code == 2, (name, result.output)
        said[name] = result.output.strip().removeprefix("Error: ")
    for name, call in (("watch", watch), ("sweep", go_on), ("dry run", lambda path: go_on(path, dry=True))):
        with pytest.raises(InputError) as caught:
            call(folder)
        said[name] = caught.value.format_message()
    return said


def at(path: str, value: Any) -> Damage:
    """Put a value, or a text of JSON (``RAW``), at a place of ``sweep.json``; ``GONE`` removes what is there."""

    def damage(folder: Path) -> None:
        info = content()
        place: Any = info
        *above, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
        for part in above:
            place = place[part]
        if value is GONE:
            del place[last]
        else:
            place[last] = "@@" if isinstance(value, RAW) else value
        text = json.dumps(info)
        (folder / "sweep.json").write_text(text.replace('"@@"', value) if isinstance(value, RAW) else text)

    return damage


def whole(text: str | bytes) -> Damage:
    """The whole content of ``sweep.json``."""
    return lambda folder: (folder / "sweep.json").write_bytes(text.encode() if isinstance(text, str) else text)


NESTED = RAW('{"a":' * 60 + "1" + "}" * 60)


def linked(path: Path) -> None:
    other = path.parent.parent.parent / "elsewhere"
    other.write_text(json.dumps(content()))
    path.symlink_to(other)


WHOLE_TEXT = json.dumps(content())
SWEEP_FILES: dict[str, tuple[Damage, str]] = {
    "control characters in a trial's name": (at("trials.0.name", "a\x1b[31m"), "trials[0].name is 'a\\x1b[31m'"),
    "control characters in the metric": (at("return_metric", "a\x1b[31m"), "return_metric is 'a\\x1b[31m'"),
    "empty": (whole(""), ""),
    "cut": (whole(WHOLE_TEXT[: len(WHOLE_TEXT) // 2]), ""),
    "cut at the end": (whole(WHOLE_TEXT[:-1]), ""),
    "two": (whole(WHOLE_TEXT * 2), ""),
    "list": (whole("[]"), "it is [], not a table"),
    "null": (whole("null"), "it is None, not a table"),
    "text": (whole('"x"'), "not a table"),
    "number": (whole("1e400"), "not a table"),
    "binary": (whole(os.urandom(64) + b"\xff\xfe"), ""),
    "utf-16": (whole(WHOLE_TEXT.encode("utf-16")), "UTF-8"),
    "zeros": (whole(b"\0" * 1000), ""),
    "deep lists": (whole("[" * 100_000), "nested"),
    "deep tables": (whole('{"a":' * 100_000 + "1" + "}" * 100_000), "nested"),
    "nested": (at("overrides", NESTED), "nested"),
    "nested settings": (at("cells.0.settings.x", NESTED), "nested"),
    "nested and unknown": (at("other", NESTED), "nested"),
    "half a character": (at("cells.0.label", RAW('"\\ud800"')), "UTF-8"),
    "long number": (at("epochs", RAW("9" * 5000)), ""),
    **{
        f"epochs {value!r:.20}": (at("epochs", value), "epochs")
        for value in (
            *(0, -1, 3.0, "3", True, None, [], {}, 3_000_000_000, HUGE, GONE),
            *map(RAW, ("3e9", "NaN", "Infinity", "1e999")),
        )
    },
    **{
        f"seeds {value!r:.20}": (at("seeds", value), "seed")
        for value in (3, None, [], {}, [0, 0], [0, 1, 2, -3], ["0"], [True], [0.5], [0, 1, 2, 3, 4], RAW(f"[{HUGE}]"))
    },
    "cells a table": (at("cells", {}), "cells is {}, not a list"),
    "no cells": (at("cells", []), ""),
    "cells of null": (at("cells", [None]), "cells[0]"),
    "cells gone": (at("cells", GONE), "it lacks 'cells'"),
    "label gone": (at("cells.1.label", GONE), "cells[1] lacks 'label'"),
    "label a number": (at("cells.0.label", 5), "cells[0].label is 5"),
    "label twice": (at("cells.1.label", "a=1"), "two cells are the same"),
    "axes a list": (at("cells.0.axes", []), "cells[0].axes"),
    "axis of many digits": (at("cells.0.axes.a", HUGE), "cells[0].axes.a"),
    "settings a number": (at("cells.0.settings", 5), "cells[0].settings"),
    "epoch_length": (at("cells.0.epoch_length", -1), "cells[0].epoch_length is -1"),
    "warmup_steps": (at("cells.0.warmup_steps", 1e9), "cells[0].warmup_steps"),
    "trials a table": (at("trials", {}), "trials"),
    "no trials": (at("trials", []), "has no trial of seed 0"),
    "a trial gone": (at("trials.1", GONE), "has no trial of seed 2"),
    **{
        f"name {value!r:.20}": (at("trials.0.name", value), "trials[0].name")
        for value in ("../../outside", "/etc/passwd", "..", ".", "", 5, None, "a\0b", "a\\b", "x" * 300)
    },
    "name twice": (at("trials.1.name", TRIAL), "two trials are the same"),
    **{
        f"cell {value!r:.20}": (at("trials.0.cell", value), "cell")
        for value in (-1, 7, "0", None, True, 0.0, HUGE, RAW("1e3"), GONE)
    },
    **{
        f"seeds of a trial {value!r:.20}": (at("trials.0.seeds", value), "seed")
        for value in ([], 0, "0", [-1], ["0"], [0], [0, 1, 2], [0, 0, 1], [None], GONE)
    },
    **{
        f"resources {value!r:.30}": (at("trials.0.resources", value), "trials[0].resources")
        for value in ([], {"CPU": "two"}, {"GPU": -1}, RAW('{"CPU": NaN}'), RAW(f'{{"GPU": {HUGE}}}'))
    },
    **{
        f"wall_time_s {value!r:.20}": (at("wall_time_s", value), "wall_time_s")
        for value in ("long", -1, [], True, RAW("NaN"), 1e300, HUGE)
    },
    "machine": (at("machine", 3), "machine is 3"),
    "cpus": (at("machine.cpus", "two"), "machine.cpus is 'two'"),
    "memory": (at("machine.memory_gib", RAW("Infinity")), "machine.memory_gib"),
    "versions": (at("versions", []), "versions"),
    "a version": (at("versions.torch", 2), "versions.torch"),
    "launches a table": (at("launches", {}), "launches"),
    "a launch a number": (at("launches", [3]), "launches[0]"),
    "time of a launch": (at("launches.0.wall_time_s", "x"), "launches[0].wall_time_s"),
    "begin of a launch": (at("launches.0.started", 5), "launches[0].started"),
    "versions of a launch": (at("launches.0.versions", 5), "launches[0].versions"),
    "failed_trials": (at("failed_trials", [TRIAL]), "failed_trials"),
    "a failed trial": (at("failed_trials", {TRIAL: 3}), "failed_trials"),
    "interrupted": (at("interrupted", "yes"), "interrupted"),
    "metric": (at("return_metric", 5), "return_metric"),
    "slots": (at("slots", 0), "slots"),
    "sweep_id": (at("sweep_id", 5), "sweep_id"),
    "storage": (at("storage", 7), "storage"),
    "overrides": (at("overrides", []), "overrides"),
    "command": (at("command", 5), "command"),
    "a folder": (in_place(Path.mkdir), "it is a folder"),
    "a link": (in_place(linked), "it is a link"),
    "a link to nothing": (in_place(lambda path: path.symlink_to("nothing")), "it is a link"),
    "a link to zeros": (in_place(lambda path: path.symlink_to("/dev/zero")), "it is a link"),
    "a pipe": (in_place(os.mkfifo), "it is no file"),
    "a terabyte": (in_place(sparse(2**40)), "bytes, more than"),
}


@pytest.mark.parametrize("name", SWEEP_FILES)
def test_a_damaged_sweep_file_is_refused_in_a_sentence_by_every_command(folder: Path, name: str) -> None:
    damage, place = SWEEP_FILES[name]
    damage(folder)
    before = sorted(folder.rglob("*"))
    for command, message in refusals(folder).items():
        assert is_a_sentence(message), (command, message)
        assert str(folder) in message or "results/x" in message, (command, message)
        assert "its sweep.json is damaged (" in message, (command, message)
        assert place in message, (command, message)
    assert sorted(path for path in folder.rglob("*") if path.name != ".driver.lock") == before


def test_control_characters_in_names_from_elsewhere_are_shown_escaped_by_every_command(folder: Path) -> None:
    hostile = "\x1b[31m\x07\u202e\r"
    info = json.loads(
        json.dumps(content()).replace("python -m vagram_ray.sweep x.py", f"python{json.dumps(hostile)[1:-1]}")
    )
    for cell in info["cells"]:
        cell["label"] += hostile + "\n"
    info |= {"name": hostile, "description": f"two\nlines{hostile}", "scale": hostile, "stopped_by": hostile}
    info["launches"][0]["ended"] = hostile
    (folder / "sweep.json").write_text(json.dumps(info))
    (folder / "records" / f"{TRIAL}.jsonl").unlink()
    shown = [run(summarize, folder).output, watch(folder), run(play, folder, "--cell", "a=1").output]
    assert run(report, folder).exit_code == 0
    shown += [file.read_text() for end in ("md", "csv", "tex", "html") for file in folder.rglob(f"*.{end}")]
    for text in shown:
        assert [c for c in text if not c.isprintable() and c not in "\n\t\u2028\u00a0"] == []
    assert "a=1\\x1b[31m\\x07\\u202e\\r\\n" in shown[0]


def test_what_only_going_on_needs_is_asked_for_there(folder: Path) -> None:
    """Versions that kept no launches and no settings wrote folders that are still read."""
    for key in ("launches", "settings"):
        at(key, GONE)(folder)
        assert run(summarize, folder).exit_code == 0
        with pytest.raises(InputError, match=r"its sweep\.json is damaged \(it has no launches or no settings\)"):
            go_on(folder)
    at("sweep_id", GONE)(folder)
    assert run(summarize, folder).exit_code == 0
    with pytest.raises(InputError, match="earlier version"):
        go_on(folder)


def test_null_is_as_if_a_key_were_not_there(folder: Path) -> None:
    for key in set(content()) - {"epochs", "seeds", "cells", "trials", "sweep_id", "launches", "settings"}:
        at(key, None)(folder)
        assert run(summarize, folder).exit_code == 0, key
        assert run(report, folder).exit_code == 0, key
        assert "a=1" in watch(folder) and not go_on(folder).todo


def test_reading_takes_little_memory(folder: Path) -> None:
    """Files of a terabyte and of many brackets."""
    tracemalloc.start()
    try:
        for name in ("a terabyte", "deep lists", "deep tables", "long number"):
            SWEEP_FILES[name][0](folder)
            with pytest.raises(InputError):
                SweepFolder(folder).read()
        assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    finally:
        tracemalloc.stop()


def test_there_are_many_damaged_files() -> None:
    assert len(SWEEP_FILES) >= 100
