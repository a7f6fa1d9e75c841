"""Damaged and hostile records: five commands read each, and name what does not count."""

from __future__ import annotations

import json
import os
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from tests.records.damage import (
    EPOCHS,
    GONE,
    HUGE,
    RAW,
    RETURN,
    TRIAL,
    Damage,
    go_on,
    in_place,
    is_a_sentence,
    lines,
    records,
    run,
    sparse,
    watch,
)
from vagram_ray.play.commandline import main as play
from vagram_ray.records.folder import SweepFolder
from vagram_ray.report.commandline import main as report
from vagram_ray.sweep.summary import main as summarize

pytestmark = pytest.mark.usefixtures("no_figures")


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
    assert bool(again.todo) == (again.trials[TRIAL].epochs < EPOCHS)


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
    """A file of a terabyte, and lines of many bytes and brackets."""
    tracemalloc.start()
    try:
        for name in ("a terabyte", "long, at the end", "deep, at the end"):
            RECORDS[name][0](folder)
            assert SweepFolder(folder).read_records(TRIAL).damage
        assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    finally:
        tracemalloc.stop()


def test_there_are_many_damaged_files() -> None:
    assert len(RECORDS) >= 60
