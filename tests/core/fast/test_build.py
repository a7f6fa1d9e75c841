"""Compilation of a stand-in source: once per machine, by one process at a time, kept where nobody else can write."""

import ctypes
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vagram_ray.core import private_folder
from vagram_ray.core.fast import build

REAL_COMPILER = next((found for name in build.COMPILERS if (found := shutil.which(name))), None)
needs_compiler = pytest.mark.skipif(REAL_COMPILER is None, reason="needs a C++ compiler")

SOURCE = '#include "seven.h"\nextern "C" int answer() { return 6 * SEVEN; }\n'
LOAD = """
import logging, pathlib, sys
logging.basicConfig(format="%(message)s")
from vagram_ray.core.fast import build
library = build.load_library(pathlib.Path(sys.argv[1]))
print(library.handle.answer() if library.handle else library.reason)
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home and temporary files of the test's own, with nothing compiled."""
    for name, variable in (("home", "HOME"), ("tmp", "TMPDIR")):
        (tmp_path / name).mkdir(mode=0o700)
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.setattr("tempfile.tempdir", None)
    for variable in ("XDG_CACHE_HOME", "CXX"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "home"


@pytest.fixture
def sources(tmp_path):
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "answer.cpp").write_text(SOURCE)
    (folder / "seven.h").write_text("#define SEVEN 7\n")
    return folder


def load(sources) -> build.NativeLibrary:
    """As another process would."""
    build.load_library.cache_clear()
    return build.load_library(sources)


def answer(sources) -> int:
    library = load(sources)
    assert library.handle is not None, library.reason
    return library.handle.answer()


def libraries(folder) -> list[Path]:
    return sorted(folder.rglob("*.so"))


def stand_in_compiler(monkeypatch, tmp_path, script) -> Path:
    """A compiler by the name of g++ before all others; returns the file in which it notes each compilation."""
    calls, folder = tmp_path / "calls", tmp_path / "bin"
    folder.mkdir()
    program = folder / "g++"
    program.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo stand-in && exit\necho call >> {calls}\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return calls


@needs_compiler
def test_a_library_is_compiled_once_and_kept(sources, home, tmp_path, monkeypatch):
    calls = stand_in_compiler(monkeypatch, tmp_path, f'exec {REAL_COMPILER} "$@"')
    assert answer(sources) == answer(sources) == 42
    assert calls.read_text() == "call\n"
    (kept,) = libraries(home)
    assert kept.parent == home / ".cache" / "vagram_ray"
    assert [path.stat().st_mode & 0o777 for path in (kept.parent.parent, kept.parent, kept)] == [0o700, 0o700, 0o600]
    assert not list(kept.parent.glob("compiling-*"))


@needs_compiler
def test_processes_that_start_together_compile_once(sources, tmp_path, monkeypatch):
    calls = stand_in_compiler(monkeypatch, tmp_path, f'sleep 1\nexec {REAL_COMPILER} "$@"')
    command = [sys.executable, "-c", LOAD, str(sources)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0] for process in processes] == ["42\n"] * 3
    assert calls.read_text() == "call\n"


def test_processes_that_wait_for_a_failing_compilation_do_not_try_it_again(sources, tmp_path, monkeypatch):
    calls = stand_in_compiler(monkeypatch, tmp_path, "sleep 5\necho no room >&2\nexit 3")
    command = [sys.executable, "-c", LOAD, str(sources)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in processes]
    assert said[0] == said[1] and said[0].endswith("failed with status 3: no room\n")
    assert calls.read_text() == "call\n"
    assert "no room" in load(sources).reason  # a later process does
    assert calls.read_text() == "call\ncall\n"


@needs_compiler
@pytest.mark.parametrize("changed", ["answer.cpp", "seven.h"])
def test_changed_sources_make_another_library(sources, home, changed):
    assert answer(sources) == 42
    (sources / changed).write_text((sources / changed).read_text().replace("7", "8").replace("6 *", "7 *"))
    assert answer(sources) in (48, 49)
    assert len(libraries(home)) == 2


@needs_compiler
def test_a_change_of_compiler_or_processor_makes_another_library(sources, home, monkeypatch):
    assert answer(sources) == 42
    monkeypatch.setenv("CXX", f"{REAL_COMPILER} -DUNUSED")
    assert answer(sources) == 42
    monkeypatch.setattr(build, "_processor", lambda: "another one")
    assert answer(sources) == 42
    assert len(libraries(home)) == 3


@needs_compiler
@pytest.mark.parametrize("damage", [b"", b"not a library", None])
def test_a_damaged_library_is_made_anew(sources, home, damage, caplog):
    answer_by_another_process(sources)
    (kept,) = libraries(home)
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert answer(sources) == 42
    assert libraries(home) and libraries(home)[0].read_bytes() != damage
    assert "is damaged and will be made anew" in caplog.text


def answer_by_another_process(sources) -> None:
    done = subprocess.run([sys.executable, "-c", LOAD, str(sources)], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "42\n"


@needs_compiler
def test_a_library_without_its_compiler_is_still_used(sources, monkeypatch, tmp_path):
    assert answer(sources) == 42
    monkeypatch.setenv("PATH", str(tmp_path))
    assert answer(sources) == 42


@needs_compiler
def test_what_has_been_compiled_can_be_asked_for_without_compiling(sources, home):
    assert build.load_built_library(sources).handle is None
    assert libraries(home) == []
    assert answer(sources) == 42
    build.load_built_library.cache_clear()
    assert build.load_built_library(sources).handle.answer() == 42


# -- no compiler, or a bad one -----------------------------------------------------------------------------------


def test_without_a_compiler_there_is_a_reason(sources, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert load(sources) == (None, "no C++ compiler (g++, clang++, c++) was found")
    monkeypatch.setenv("CXX", "no-such-compiler -O1")
    assert load(sources) == (None, "the C++ compiler that CXX='no-such-compiler -O1' names was not found")


@needs_compiler
def test_errors_of_the_compiler_are_quoted(sources, home):
    (sources / "answer.cpp").write_text("int answer() { return nothing_declared; }")
    reason = load(sources).reason
    assert "failed with status 1" in reason and "nothing_declared" in reason and "\n" not in reason
    assert libraries(home) == [] and not list(home.rglob("compiling-*"))


def test_a_compiler_that_hangs_is_stopped_with_the_programs_it_called(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "COMPILER_TIMEOUT", 0.5)
    stand_in_compiler(monkeypatch, tmp_path, f"sh -c 'echo $$ > {tmp_path}/child; exec sleep 600'")
    assert "did not finish in 0.5 s: it said nothing" in load(sources).reason
    child = Path(f"/proc/{(tmp_path / 'child').read_text().strip()}")
    deadline = time.monotonic() + 10
    while child.exists() and "Z" not in (child / "stat").read_text().split()[2] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not child.exists() or "Z" in (child / "stat").read_text().split()[2]


def test_a_compiler_that_makes_nothing_is_noticed(sources, tmp_path, monkeypatch):
    stand_in_compiler(monkeypatch, tmp_path, "exit 0")
    assert "failed with status 0: it said nothing" in load(sources).reason


@needs_compiler
def test_what_a_killed_process_left_is_removed(sources, home):
    left = home / ".cache" / "vagram_ray" / "compiling-before"
    left.mkdir(parents=True)
    for folder in (left, left.parent, left.parent.parent):
        folder.chmod(0o700)
    (left / "made.so").write_bytes(b"half")
    assert answer(sources) == 42
    assert not left.exists()


def test_a_folder_without_sources_has_no_library(tmp_path):
    assert load(tmp_path) == (None, f"{tmp_path} has no C++ sources")


# -- who else can write there --------------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize("folder", [".cache/vagram_ray", ".cache", "."])
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_a_cache_that_others_can_write_to_is_neither_filled_nor_loaded_from(sources, home, folder, mode, caplog):
    if mode == 0o1777 and folder != ".cache/vagram_ray":
        pytest.skip("a sticky folder above protects what lies in it")
    answer_by_another_process(sources)  # what is loaded here must not be written to
    (stranger,) = libraries(home)
    stranger.write_bytes(b"a stranger's")  # would be repaired, were it trusted
    (home / folder).chmod(mode)
    assert answer(sources) == 42
    assert stranger.read_bytes() == b"a stranger's"
    assert f"can be written by others; chmod go-w {home / folder}" in caplog.text
    (kept,) = libraries(Path(os.environ["TMPDIR"]))
    assert kept.parent.stat().st_mode & 0o777 == 0o700


@needs_compiler
def test_a_library_that_others_can_write_to_is_made_anew(sources, home, caplog):
    assert answer(sources) == 42
    (kept,) = libraries(home)
    kept.chmod(0o666)
    assert answer(sources) == 42
    assert "is not loaded" in caplog.text and libraries(home)[0].stat().st_mode & 0o777 == 0o600


@needs_compiler
def test_a_link_in_the_place_of_a_library_is_not_followed(sources, home, tmp_path):
    assert answer(sources) == 42
    (kept,) = libraries(home)
    shutil.move(kept, tmp_path / "elsewhere.so")
    kept.symlink_to(tmp_path / "elsewhere.so")
    assert answer(sources) == 42
    assert not libraries(home)[0].is_symlink() and (tmp_path / "elsewhere.so").exists()


def test_a_cache_behind_a_link_is_checked_where_it_is(tmp_path):
    shared, link = tmp_path / "shared" / "cache", tmp_path / "link"
    shared.mkdir(parents=True)
    link.symlink_to(shared)
    assert private_folder.private_folder(link) == shared.resolve()
    shared.parent.chmod(0o777)
    with pytest.raises(private_folder.NotPrivateError, match=f"{shared.parent} can be written by others"):
        private_folder.private_folder(link)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("part", ["cache", "."])
def test_a_folder_of_another_user_is_refused(tmp_path, part):
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    os.chown(tmp_path / part, 12345, 12345)
    with pytest.raises(private_folder.NotPrivateError, match="belongs to another user"):
        private_folder.private_folder(folder)


@needs_compiler
def test_an_unusable_home_leaves_the_temporary_files(sources, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    assert answer(sources) == 42
    assert len(libraries(Path(os.environ["TMPDIR"]))) == 1
    monkeypatch.setenv("TMPDIR", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    assert "file" in load(sources).reason


@needs_compiler
def test_a_cache_that_can_only_be_read_is_read(sources, home, monkeypatch):
    assert answer(sources) == 42

    def full(*arguments, **options):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(build, "FileLock", full)
    monkeypatch.setattr("tempfile.tempdir", str(home / "nowhere" / "file"))
    assert answer(sources) == 42
    (sources / "seven.h").write_text("#define SEVEN 8\n")
    assert "Read-only file system" in load(sources).reason


@needs_compiler
def test_a_relative_cache_home_is_ignored(sources, home, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    assert private_folder.user_cache_folder() == home / ".cache" / "vagram_ray"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "own"))
    assert answer(sources) == 42
    assert libraries(home)[0].parent == home / "own" / "vagram_ray"


@needs_compiler
def test_the_library_is_a_library_of_ctypes(sources):
    assert isinstance(load(sources).handle, ctypes.CDLL)
