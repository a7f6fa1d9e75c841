"""The live view of a sweep that runs elsewhere, from the files it writes: ``sweep.json`` and ``records/*.jsonl``.

The sweep's own view (``vagram_ray.sweep.view.progress``) is fed with what is new in the files. A trial's errors are
seen in its ``error.txt``, where the trials' folders lie beside the records. Otherwise failed trials show at the end.
A sweep that is launched again while it is watched is shown from what its earlier launches have recorded.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from vagram_ray.commands import InputError
from vagram_ray.files import read_file
from vagram_ray.records import SweepError, SweepFolder
from vagram_ray.records.folder import ERROR_FILE, epoch_of_death, stopped_by
from vagram_ray.records.launches import started_at, total_seconds
from vagram_ray.sweep.run.faults import MAX_FAILURES, NODE_LOST
from vagram_ray.sweep.view.progress import DONE, FAILED, STOPPED, ProgressTable, ProgressView, SweepProgress
from vagram_ray.sweep.view.progress_state import RecordedPlan
from vagram_ray.text import format_duration

REFRESH_S = 1.0
MAX_ERROR_BYTES = 64 * 2**20


class SweepWatch:
    """Follows the files in a sweep's folder and keeps a ``SweepProgress`` up to date.

    Raises:
        InputError: The folder holds no sweep.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder, self._clock = folder, clock
        self._sweep = SweepFolder(folder)
        self._info_changed = _changed(self._sweep.file)
        self.info = _read_info(self._sweep)
        self._begin()

    def _begin(self) -> None:
        """Begin with what the files of the newest launch say."""
        plan = RecordedPlan.of(self.info)
        launches = self.info.get("launches") or [self.info]
        self._launch_started = started_at(launches[-1], default=self._info_changed)
        self.progress = SweepProgress(plan, self._clock, self._launch_started - total_seconds(launches[:-1]))
        names = [trial.name for trial in plan.trials]
        self._sizes = dict.fromkeys(names, -1)
        """Bytes of the records that were read last."""
        self._failures = dict.fromkeys(names, 0)
        self._forgiven = dict.fromkeys(names, 0)  # failures before the newest epoch

    @property
    def ended(self) -> bool:
        """Whether the sweep has come to its end, in order or by Ctrl-C."""
        return "wall_time_s" in self.info

    def poll(self, view: ProgressView | None = None) -> None:
        """Take in what is new, and tell the view about it. Another launch or plan gives ``progress`` anew."""
        if self._poll_info():  # before the records: once it tells of the end, they are complete
            self._begin()
            view = None
        for name in self._sizes:
            self._poll_errors(name, before=_changed(self._sweep.records_file(name)), view=view)
            self._poll_records(name, view)
            self._poll_errors(name, before=float("inf"), view=view)
        if self.ended:
            for name, path in self.info.get("failed_trials", {}).items():
                if name in self.progress.trials and self.progress.trials[name].status != FAILED:
                    self.progress.failed(name, path)
                    if view:
                        view.ended(name)
            self.progress.ended(float(self.info["wall_time_s"]))

    def _poll_info(self) -> bool:
        """Read ``sweep.json`` if it has changed. Returns whether there is another launch or plan."""
        changed = _changed(self._sweep.file)
        if changed == self._info_changed:
            return False
        before = _what_runs(self.info)
        self._info_changed, self.info = changed, _read_info(self._sweep)
        return _what_runs(self.info) != before

    def _poll_records(self, name: str, view: ProgressView | None) -> None:
        file, trial, epochs = self._sweep.records_file(name), self.progress.trials[name], self.progress.plan.epochs
        if not os.path.lexists(file) or (size := file.lstat().st_size) == self._sizes[name]:
            return
        self._sizes[name], changed = size, _changed(file)
        known, damage = self._sweep.read_records(name, epochs)
        if damage:
            warning = f"The records of {name} are damaged ({damage}): its seeds will not count."
            view.warn(warning) if view else self.progress.warned(warning)
        # Without a new one it has gone back to a checkpoint.
        records = [record for record in known if record["training_iteration"] > trial.epochs_done] or known[-1:]
        if not records:
            return
        if changed < self._launch_started:  # of an earlier launch
            self.progress.restored(name, records)
            if epoch_of_death(known) is not None:
                self.progress.finished(name, when=changed)
            return
        done = trial.epochs_done
        for record in records:
            self.progress.recorded(name, record, when=changed)
        if trial.epochs_done > done:
            self._forgiven[name] = self._failures[name]
        if by := stopped_by(records):
            self.progress.stopped(name, by, when=changed)
        elif trial.epochs_done >= epochs or epoch_of_death(known) is not None:  # it ends with its last seed
            self.progress.finished(name, when=changed)
        if view:
            (view.ended if trial.status in (DONE, STOPPED) else view.reported)(name)

    def _poll_errors(self, name: str, before: float, view: ProgressView | None) -> None:
        """Take in failures that were noted in this launch up to a time: an older one was before the newest records."""
        path = self.folder / name / ERROR_FILE
        changed = _changed(path)
        if not max(self._launch_started, 1.0) <= changed <= before:
            return
        try:
            text = read_file(path, MAX_ERROR_BYTES).decode(errors="replace")
        except (OSError, ValueError):  # none that a trial writes
            return
        numbers = re.findall(r"^Failure (?:# )?(\d{1,9}) ", text, flags=re.MULTILINE)
        failures = int(numbers[-1]) if numbers else 1
        if failures <= self._failures[name] or self.progress.trials[name].status in (DONE, STOPPED):
            return
        self._failures[name] = failures
        reason = text.strip().rpartition("\n")[2]
        in_a_row = failures - self._forgiven[name]
        tell = self.progress.failed if in_a_row >= MAX_FAILURES and reason != NODE_LOST else self.progress.retrying
        tell(name, str(path.resolve()), changed, reason=reason)
        if view:
            view.ended(name)


def watch_sweep(
    folder: Path,
    console: Console,
    *,
    interval_s: float = REFRESH_S,
    sleep: Callable[[float], None] = time.sleep,
) -> SweepWatch:
    """Show the progress of the sweep in ``folder`` until it ends. Ctrl-C leaves the sweep alone.

    Raises:
        InputError: The folder holds no sweep.
    """
    watch = SweepWatch(folder)
    watch.poll()  # what is past is no news: a log starts with the present state
    if watch.ended or not console.is_terminal:
        console.print(ProgressTable(watch.progress))
    while not watch.ended:
        progress = watch.progress
        with ProgressView(progress, console) as view:
            while not watch.ended and watch.progress is progress:
                sleep(interval_s)
                watch.poll(view)
    how = "was interrupted" if watch.info.get("interrupted") else "ended"
    console.print(f"The sweep {how} after {format_duration(watch.progress.elapsed)}.")
    return watch


def _read_info(folder: SweepFolder) -> dict[str, Any]:
    try:
        return folder.read("be watched")
    except FileNotFoundError as error:
        raise InputError(f"{str(error).rstrip('.')}; --watch needs one.") from error
    except SweepError as error:
        raise InputError(error.message) from error


def _what_runs(info: Mapping[str, Any]) -> tuple[Any, ...]:
    """Changes when a sweep is launched again, or when its plan changes while it runs."""
    return len(info.get("launches", ())), info["epochs"], info["trials"]


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
