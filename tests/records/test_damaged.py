"""Damaged and hostile sweep folders: five commands read each, and refuse it in a sentence or name what does not count.

The folder that is damaged is written here, as plain JSON, and not by the code under test.
"""

from __future__ import annotations

import io
import json
import os
import re
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from tests.sweep.conftest import plan_of, with_settings
from vagram_ray.commands import InputError
from vagram_ray.play.commandline import main as play
from vagram_ray.records.folder import SweepFolder
from vagram_ray.report import figures
from vagram_ray.report.commandline import main as report
from vagram_ray.report.watch import SweepWatch
from vagram_ray.sweep.plan.plan import SweepPlan
from vagram_ray.sweep.resume.continuation import Continuation, continue_sweep
from vagram_ray.sweep.storage.folder import SweepStorage
from vagram_ray.sweep.storage.lock import DriverLock
from vagram_ray.sweep.summary import main as summarize
from vagram_ray.sweep.view.progress import ProgressTable

EPOCHS, RETURN = 3, "eval/episode_return"
SETTINGS = {"env": "X", "utd_ratio": 1}
CELLS = {"a=1": [(0, 1), (2, 3)], "a=2": [(0, 1), (2, 3)]}
TRIAL = "a=1,seeds=0-1"
"""The trial whose records are damaged."""
Info = dict[str, Any]
Record = dict[str, Any]
Damage = Callable[[Path], Any]


def content() -> Info:
    """A sweep's file as a sweep of today writes it."""
    names = [(f"{label},seeds={'-'.join(map(str, pack))}", pack) for label, packs in CELLS.items() for pack in packs]
    launch = {"command": "python -m vagram_ray.sweep x.py", "started": "2026-11-22T12:00:00+00:00", "git_commit": "abc"}
    return {
        "name": "x",
        "description": "",
        "scale": "smoke",
        "epochs": EPOCHS,
        "seeds": [0, 1, 2, 3],
        "return_metric": RETURN,
        "slots": 2,
        "resources": {"CPU": 1.0, "GPU": 0.0},
        "overrides": {},
        "settings": SETTINGS,
        "cells": [
            {"index": index, "label": label, "axes": {"a": label[2:]}, "settings": {"lr": index + 1}}
            | {"trials": [f"{label},seeds=0-1", f"{label},seeds=2-3"], "epoch_length": 100, "warmup_steps": 50}
            for index, label in enumerate(CELLS)
        ],
        "trials": [
            {"name": name, "cell": list(CELLS).index(name[:3]), "seeds": list(pack), "resources": {"CPU": 1, "GPU": 0}}
            for name, pack in names
        ],
        "sweep_id": "f00d",
        "storage": None,
        **launch,
        "versions": {"torch": "2"},
        "machine": {"processor": "x", "cpus": 2, "gpus": 0, "memory_gib": 8.0},
        "wandb": {"mode": "disabled", "project": "x"},
        "launches": [{**launch, "host": "here", "pid": 1, "wall_time_s": 9.0, "ended": "complete"}],
        "wall_time_s": 9.0,
        "interrupted": False,
        "failed_trials": {},
    }


def records(seeds: tuple[int, ...]) -> list[Record]:
    return [
        {
            "training_iteration": epoch,
            "env_steps": 50 + 100 * epoch,
            "time_total_s": 2.0 * epoch,
            "time": {"sac_s": 1.0},
            "perf": {"env_steps_per_s": 50.0},
            "seeds": {str(seed): {RETURN: 10.0 * epoch + seed, "failed": 0} for seed in seeds},
        }
        for epoch in range(1, EPOCHS + 1)
    ]


def lines(*rows: Any) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep that is complete."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "results" / "x"
    (path / "records").mkdir(parents=True)
    (path / "sweep.json").write_text(json.dumps(content(), indent=2))
    for trial in content()["trials"]:
        (path / "records" / f"{trial['name']}.jsonl").write_text(lines(*records(tuple(trial["seeds"]))))
    (tmp_path / "outside.jsonl").write_text(lines(*records((0, 1))))
    return path


# -- the five commands -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def no_figures() -> Iterator[None]:
    """Figures take seconds, and draw what has been read."""
    patch = pytest.MonkeyPatch()
    patch.setattr(figures, "draw_figures", lambda *arguments: [])
    yield
    patch.undo()


def run(command: Any, *arguments: Any) -> Result:
    """Run a command; anything but a status and text is a failure."""
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def is_a_sentence(message: str) -> bool:
    text = message.strip()
    return "\n" not in text and text.endswith((".", "?")) and len(text) < 700 and text.isprintable()


def watch(folder: Path) -> str:
    """What the live view shows."""
    console = Console(file=io.StringIO(), width=400)
    watched = SweepWatch(folder)
    watched.poll()
    watched.poll()
    console.print(ProgressTable(watched.progress))
    return console.file.getvalue()  # type: ignore[attr-defined]


def plan() -> SweepPlan:
    own = plan_of(CELLS, epochs=EPOCHS)
    return with_settings(own, *({**SETTINGS, "lr": cell.index + 1} for cell in own.cells))


def go_on(folder: Path, *, dry: bool = False) -> Continuation:
    """The sweep's command, up to what it would run."""
    storage = SweepStorage(str(folder.parent), folder.name)
    if dry:
        return continue_sweep(plan(), storage, None, restart=False, seeds_per_trial=None)
    with DriverLock(storage) as lock:
        return continue_sweep(plan(), storage, lock, restart=False, seeds_per_trial=None)


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


# -- sweep.json --------------------------------------------------------------------------------------------------


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


class RAW(str):
    """JSON as it stands."""


GONE = object()
HUGE = RAW("9" * 400)
NESTED = RAW('{"a":' * 60 + "1" + "}" * 60)


def in_place(make: Callable[[Path], Any], file: str = "sweep.json") -> Damage:
    """Something else where the file belongs."""

    def damage(folder: Path) -> None:
        (folder / file).unlink()
        make(folder / file)

    return damage


def linked(path: Path) -> None:
    other = path.parent.parent.parent / "elsewhere"
    other.write_text(json.dumps(content()))
    path.symlink_to(other)


def sparse(size: int) -> Callable[[Path], None]:
    """A file of zeros that takes no room on the disk."""

    def make(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(size)

    return make


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


# -- records -----------------------------------------------------------------------------------------------------


def second(**change: Any) -> str:
    """The trial's records with another second line; ``GONE`` removes a key."""
    first, own, third = records((0, 1))
    own = {key: value for key, value in {**own, **change}.items() if value is not GONE}
    text = json.dumps({key: "@@" if isinstance(value, RAW) else value for key, value in own.items()})
    for value in change.values():
        text = text.replace('"@@"', value) if isinstance(value, RAW) else text
    return lines(first, text, third)


def seed(value: str) -> RAW:
    """The seeds of a record, with this return of seed 0."""
    return RAW(f'{{"0": {{"{RETURN}": {value}, "failed": 0}}, "1": {{"{RETURN}": 21.0, "failed": 0}}}}')


ALL = lines(*records((0, 1)))
BAD_LINES = {
    "binary": b"\xff\xfe\n",
    "zeros": b"\0" * 100 + b"\n",
    "list": b"[]\n",
    "null": b"null\n",
    "number": b"3\n",
    "text": b'"x"\n',
    "no JSON": b"epoch 4 done\n",
    "deep": b"[" * 100_000 + b"\n",
    "deep table": b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"\n",
    "long": b"{" + b" " * 9_000_000 + b"}\n",
    "empty table": b"{}\n",
    "an epoch too many": lines({**records((0, 1))[0], "training_iteration": EPOCHS + 1}).encode(),
}
RECORDS: dict[str, tuple[Damage, str]] = {
    **{
        f"{name}, {where}": (
            lambda folder, text=text: (folder / "records" / f"{TRIAL}.jsonl").write_bytes(text),
            "line" if name != "long" else "a line of more than",
        )
        for name, bad in BAD_LINES.items()
        for where, text in (("at the end", ALL.encode() + bad), ("at the begin", bad + ALL.encode()))
    },
    **{
        name: (lambda folder, text=text: (folder / "records" / f"{TRIAL}.jsonl").write_text(text), f"line 2 .*{place}")
        for name, text, place in (
            *(
                (f"epoch {value!r:.20}", second(training_iteration=value), "training_iteration")
                for value in (-1, 0, "2", 2.0, True, None, [], 10**9, HUGE, RAW("NaN"), GONE)
            ),
            *(
                (f"steps {value!r:.20}", second(env_steps=value), "env_steps")
                for value in (-5, "250", 250.0, None, HUGE, RAW("Infinity"), GONE)
            ),
            *(
                (f"time {value!r:.20}", second(time_total_s=value), "time_total_s")
                for value in (-1, "4", 1e300, HUGE, RAW("NaN"))
            ),
            *((f"seeds {value!r:.20}", second(seeds=value), "seeds") for value in (None, [], 3, "0", GONE)),
            *(
                (f"return {value:.20}", second(seeds=seed(value)), RETURN)
                for value in ('"high"', "NaN", "-Infinity", "1e999", "null", "true", "[]", "{}", "9" * 400)
            ),
            ("a seed a list", second(seeds={"0": [], "1": {}}), "seed 0"),
            ("a seed a word", second(seeds={"x": {}}), "a seed is 'x'"),
            ("a seed of many digits", second(seeds={"9" * 400: {}}), "a seed"),
            ("perf", second(perf={"env_steps_per_s": "fast"}), "env_steps_per_s of perf"),
            ("times", second(time=5), "time is 5"),
        )
    },
    **{
        name: (in_place(make, f"records/{TRIAL}.jsonl"), says)
        for name, make, says in (
            ("a folder", Path.mkdir, "it is a folder"),
            ("a link", lambda path: path.symlink_to(path.parents[3] / "outside.jsonl"), "it is a link"),
            ("a link to zeros", lambda path: path.symlink_to("/dev/zero"), "it is a link"),
            ("a pipe", os.mkfifo, "it is no file"),
            ("a terabyte", sparse(2**40), "bytes, more than"),
        )
    },
}


@pytest.mark.parametrize("name", RECORDS)
def test_damaged_records_are_named_and_do_not_count(folder: Path, name: str) -> None:
    damage, says = RECORDS[name]
    damage(folder)
    summary = run(summarize, folder)
    assert summary.exit_code == 1 and "NOT COMPLETE: 6 of 8 seeds" in summary.output
    words = " ".join(summary.output.split())
    assert f"seeds 0-1 has records that cannot be read (records/{TRIAL}.jsonl: " in words
    assert re.search(says, words), words
    assert run(report, folder).exit_code == 0
    page = (folder / "report" / "report.html").read_text()
    assert "has records that cannot be read" in page and "no, 6 of 8 seeds" in page
    assert f"The records of {TRIAL} are damaged (" in watch(folder)
    played = run(play, folder, "--cell", "a=1")
    assert played.exit_code == 2 and is_a_sentence(played.output)  # there are no checkpoints
    for dry in (True, False):
        found = go_on(folder, dry=dry)
        assert [note for note in found.notes if f"the records of {TRIAL} were damaged (" in note]
    again = go_on(folder)  # what was damaged lies aside now; what is sound has stayed
    assert not [note for note in again.notes if "damaged" in note]
    assert len(list((folder / "records").glob("*.damaged"))) == 1
    assert {trial.name for trial in again.todo} <= {TRIAL}
    assert bool(again.todo) == (again.done[TRIAL] < EPOCHS)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (ALL[:-30], "stopped after epoch 2 of 3"),
        (lines(*records((0, 1))[:2]), "stopped after epoch 2 of 3"),
        ("", "never reported"),
        (lines(records((0, 1))[0], records((0, 1))[2]), "lost the records of 1 epoch from epoch 2 on"),
        (second(seeds={"0": {RETURN: 1.0}}), ""),
        (ALL + '{"training_iteration": 4, "env_st', ""),
        (lines(*records((0, 1))[:2], '{"training_iter', *records((0, 1))[1:]), ""),
        (lines(*records((0, 1)), "", ""), ""),
        (lines(*({**record, "seeds": {**record["seeds"], "7": {RETURN: 1e9}}} for record in records((0, 1)))), ""),
    ],
)
def test_what_a_kill_leaves_is_no_damage(folder: Path, text: str, problem: str) -> None:
    (folder / "records" / f"{TRIAL}.jsonl").write_text(text)
    summary = run(summarize, folder)
    assert (summary.exit_code, "damaged" in summary.output) == (1 if problem else 0, False)
    assert problem in summary.output
    assert "damaged" not in watch(folder)
    assert not go_on(folder).notes or "damaged" not in go_on(folder).notes[0]


def test_a_file_in_the_place_of_the_records_folder(folder: Path) -> None:
    for file in (folder / "records").iterdir():
        file.unlink()
    (folder / "records").rmdir()
    (folder / "records").write_text("")
    summary = run(summarize, folder)
    assert summary.exit_code == 1 and "NOT COMPLETE: 0 of 8 seeds" in summary.output
    assert run(report, folder).exit_code == 0
    assert "a=1" in watch(folder)


def test_reading_takes_little_memory(folder: Path) -> None:
    """Files of a terabyte and of many brackets, a line of many bytes."""
    tracemalloc.start()
    try:
        for name in ("a terabyte", "deep lists", "deep tables", "long number"):
            SWEEP_FILES[name][0](folder)
            with pytest.raises(InputError):
                SweepFolder(folder).read()
        for name in ("a terabyte", "long, at the end", "deep, at the end"):
            RECORDS[name][0](folder)
            assert SweepFolder(folder).read_records(TRIAL).damage
        assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    finally:
        tracemalloc.stop()


def test_there_are_many_damaged_files() -> None:
    assert len(SWEEP_FILES) >= 100 and len(RECORDS) >= 60
