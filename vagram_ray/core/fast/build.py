"""The shared library of the C++ sources in this folder: compiled once per machine, kept, loaded by ``ctypes``.

A library's file name tells what it was made of (sources, flags, processor, compiler) and what it contains, so that a
change of the former makes another file and a damaged file is noticed. It lies in the user's cache folder, or among the
user's temporary files if that cannot be used. Nothing that somebody else can write to is compiled or loaded
(``private_folder``).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from vagram_ray.core.private_folder import (
    NotPrivateError,
    check_private,
    private_folder,
    user_cache_folder,
    user_temporary_folder,
)

SOURCES = Path(__file__).parent
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-fno-math-errno", "-ffp-contract=fast")
"""Options of every compiler. There is no ``-ffast-math``: NaN and infinity are to stay what they are."""
COMPILERS = ("g++", "clang++", "c++")
"""Looked for in this order unless the environment variable CXX names one."""
COMPILER_TIMEOUT = 300.0
"""Seconds after which a compilation is given up. It takes half a minute of a core, and cores may be shared."""
LINES_OF_COMPILER = 3
"""Last lines of a failed compilation that are quoted."""

logger = logging.getLogger(__name__)


class NativeLibrary(NamedTuple):
    """The loaded library, or why there is none."""

    handle: ctypes.CDLL | None
    reason: str  # one sentence without its full stop, empty if there is a library


class CompilationError(Exception):
    """The sources could not be compiled. The message says why in one line."""


class Recipe(NamedTuple):
    """The inputs of a compilation."""

    sources: dict[str, bytes]  # by file name, headers included
    compiler: tuple[str, ...]  # command with its own arguments, empty if there is none
    version: str  # what the compiler says of itself

    @property
    def stem(self) -> str:
        """Start of the names of libraries of these sources for this processor, whichever compiler made them."""
        parts = [*FLAGS, _processor()]
        for name, text in sorted(self.sources.items()):
            parts += [name, hashlib.sha256(text).hexdigest()]
        return f"native-{_digest(*parts)}"

    @property
    def maker(self) -> str:
        """Continuation of ``stem`` in the names of this compiler's libraries."""
        return _digest(*self.compiler, self.version)


@functools.cache
def load_library(sources: Path = SOURCES) -> NativeLibrary:
    """The library of all ``*.cpp`` files in a folder (headers ``*.h`` beside them), compiled if it is not there yet.

    The answer is the same for as long as the process lives.
    """
    return _load(sources, may_compile=True)


@functools.cache
def load_built_library(sources: Path = SOURCES) -> NativeLibrary:
    """As ``load_library``, only without compiling: a library that somebody has compiled before, or none."""
    return _load(sources, may_compile=False)


def _load(sources: Path, may_compile: bool) -> NativeLibrary:
    if os.name != "posix":
        return NativeLibrary(None, f"libraries are not compiled on {platform.system()}")
    recipe = _recipe(sources)
    if not any(name.endswith(".cpp") for name in recipe.sources):
        return NativeLibrary(None, f"{sources} has no C++ sources")
    folders, problems = _usable_folders()
    steps = (_find, _build) if may_compile else (_find,)
    for step in steps:
        for folder in folders:
            try:
                path = step(folder, recipe)
                if path is not None:
                    return NativeLibrary(ctypes.CDLL(str(path)), "")
            except CompilationError as error:  # it would fail in the next folder, too
                return NativeLibrary(None, str(error))
            except (OSError, Timeout) as error:
                problems.append(str(error))
    return NativeLibrary(None, "; ".join(problems) or "nothing has been compiled yet")


# -- what it is made of ------------------------------------------------------------------------------------------


def _recipe(sources: Path) -> Recipe:
    files = [path for pattern in ("*.cpp", "*.h") for path in sources.glob(pattern)]
    compiler = find_compiler()
    version = _output([*compiler, "--version"]) if compiler else ""
    return Recipe({path.name: path.read_bytes() for path in files}, compiler, version)


def find_compiler() -> tuple[str, ...]:
    """The command of a C++ compiler: ``$CXX``, or the first of ``COMPILERS`` on the path, empty without one."""
    for command in [os.environ["CXX"]] if os.environ.get("CXX") else COMPILERS:
        program, *arguments = shlex.split(command)
        found = shutil.which(program)
        if found is not None:
            return (found, *arguments)
    return ()


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


@functools.cache
def _processor() -> str:
    """The processor, on which ``-march=native`` depends."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # elsewhere the machine's name has to do
        return " ".join(platform.uname())
    telling = ("vendor_id", "cpu family", "model", "flags", "CPU implementer", "CPU part", "Features")
    told = {line for line in lines if line.split(":")[0].strip() in telling}
    return "\n".join([platform.system(), platform.machine(), *sorted(told)])


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


# -- where it lies -----------------------------------------------------------------------------------------------


def _usable_folders() -> tuple[list[Path], list[str]]:
    """Folders for libraries, the best first, and what is wrong with others."""
    folders, problems = [], []
    for choose in (user_cache_folder, user_temporary_folder):
        try:
            folders.append(private_folder(choose()))
        except OSError as error:
            problems.append(str(error))
            if isinstance(error, NotPrivateError):
                logger.warning("Compiled libraries are neither kept nor loaded where others can write: %s.", error)
    return folders, problems


def _find(folder: Path, recipe: Recipe) -> Path | None:
    """A sound library in the folder: of this compiler, or of any if there is none. Others of the name are removed."""
    for path in sorted(folder.glob(f"{recipe.stem}-{recipe.maker if recipe.compiler else '*'}-*.so")):
        try:
            check_private(path)
            if path.stem.endswith(f"-{_content(path)}"):
                return path
            logger.warning("%s is damaged and will be made anew.", path)
        except NotPrivateError as error:
            logger.warning("A compiled library is not loaded: %s.", error)
        with contextlib.suppress(OSError):
            path.unlink()
    return None


def _content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


# -- how it is made ----------------------------------------------------------------------------------------------


def _build(folder: Path, recipe: Recipe) -> Path:
    """Compile into the folder, unless another process has done so by the time it is our turn.

    Raises:
        CompilationError: If there is no compiler, or it fails or does not come to an end.
        OSError: If the folder cannot be written to.
    """
    if not recipe.compiler:
        wanted = os.environ.get("CXX")
        raise CompilationError(
            f"the C++ compiler that CXX={wanted!r} names was not found"
            if wanted
            else f"no C++ compiler ({', '.join(COMPILERS)}) was found"
        )
    failure = folder / f"{recipe.stem}-{recipe.maker}.failed"
    since = time.time()
    # Whoever waits longer than a compilation can take waits for a queue of hanging ones.
    with FileLock(folder / "compile.lock", timeout=1.5 * COMPILER_TIMEOUT, mode=0o600):
        found = _find(folder, recipe)
        if found is not None:
            return found
        if failure.exists() and failure.stat().st_mtime >= since:  # the one we waited for has just failed
            raise CompilationError(failure.read_text())
        try:
            with _work_folder(folder) as work:
                return _compile(work, recipe, folder)
        except CompilationError as error:
            failure.write_text(str(error))
            raise


@contextlib.contextmanager
def _work_folder(folder: Path) -> Iterator[Path]:
    for left in folder.glob("compiling-*"):  # by a process that was killed. We hold the lock
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="compiling-", dir=folder, ignore_cleanup_errors=True) as work:
        yield Path(work)


def _compile(work: Path, recipe: Recipe, folder: Path) -> Path:
    """Compile what the recipe holds, not what the files say by now. The library appears under its name complete."""
    for name, text in recipe.sources.items():
        (work / name).write_bytes(text)
    made = work / "made.so"
    units = sorted(name for name in recipe.sources if name.endswith(".cpp"))
    said = work / "said"
    with said.open("wb") as output:
        status = _call([*recipe.compiler, *FLAGS, *units, "-o", made.name], work, output.fileno())
    if status != 0 or not made.is_file():
        lines = [line.strip() for line in said.read_text(errors="replace").splitlines() if line.strip()]
        ending = " | ".join(lines[-LINES_OF_COMPILER:]) or "it said nothing"
        how = f"did not finish in {COMPILER_TIMEOUT:g} s" if status is None else f"failed with status {status}"
        raise CompilationError(f"the compilation by {shlex.join(recipe.compiler)} {how}: {ending}")
    made.chmod(0o600)
    kept = folder / f"{recipe.stem}-{recipe.maker}-{_content(made)}.so"
    os.replace(made, kept)
    return kept


def _call(command: list[str], folder: Path, output: int) -> int | None:
    """Exit status of a command, or None if it had to be killed."""
    process = subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
    )
    try:
        return process.wait(COMPILER_TIMEOUT)
    except BaseException as error:  # interruptions too: the programs that the compiler has called are to end with it
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            return None
        raise
