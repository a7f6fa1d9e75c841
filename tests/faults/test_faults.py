"""What is made of a failure: its reason, whether the trial is started again, and what is written down."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from ray.exceptions import OutOfMemoryError as RayOutOfMemoryError
from ray.tune import TuneError

from vagram_ray.sweep.run import faults
from vagram_ray.sweep.run.faults import MAX_LOST_NODES, NO_ANSWER, NODE_LOST, PROCESS_DIED, STEP_LIMIT, Faults, diagnose
from vagram_ray.sweep.run.run import last_line

pytestmark = pytest.mark.ci

TRACEBACK = """ray::MBPO.train() (pid=1, ip=1.2.3.4)
  File "algorithm.py", line 1, in step
    except MemoryError:  # what a traceback shows of the source is no reason
  File "envs.py", line 2, in step
{last}"""
WORKER_DIED = (
    "The actor died unexpectedly before finishing this task.\n\tclass_name: MBPO\n\tpid: 1\n"
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker "
    "unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process was "
    "killed by the OOM killer due to high memory usage, (2) ray stop --force was called."
)
NODE_DIED = (
    "The actor died unexpectedly before finishing this task.\n\tclass_name: MBPO\n"
    "The actor died because its node has died. Node Id: 0123\n\tthe actor's node was terminated unexpectedly: health "
    "check failed due to missing too many heartbeats"
)


def task_error(last: str) -> RayTaskError:
    """As Ray hands over an exception in a trial."""
    return RayTaskError("train", TRACEBACK.format(last=last), RuntimeError(last), pid=1)


def died(text: str = WORKER_DIED) -> ActorDiedError:
    """As Ray tells that a trial's process has ended."""
    error = ActorDiedError()
    error.error_msg = text
    return error


@pytest.mark.parametrize(
    ("error", "stderr", "reason"),
    [
        (task_error("RuntimeError: the simulator is lost"), "", "RuntimeError: the simulator is lost"),
        (task_error("ValueError: two\nlines"), "", "ValueError: two"),
        (died(), "", PROCESS_DIED),
        (died(), "An environment step exceeded its time limit of 300 s (env_step_time_limit_s); ...", STEP_LIMIT),
        (died(NODE_DIED), "", NODE_LOST),
        (ActorUnavailableError("RPC error: Socket closed rpc_code: 14.", b"0123456789abcdef"), "", NO_ANSWER),
        (OSError("something else"), "", "something else"),
    ],
)
def test_the_reason_fits_in_a_line(error: Exception, stderr: str, reason: str) -> None:
    fault = diagnose(error, stderr)
    assert fault.reason == reason
    assert not fault.out_of_memory
    assert fault.node_lost == (reason in (NODE_LOST, NO_ANSWER))


@pytest.mark.parametrize(
    "error",
    [
        task_error("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB."),
        task_error("torch.cuda.OutOfMemoryError: CUDA out of memory."),
        task_error("MemoryError"),
        task_error("numpy._core._exceptions._ArrayMemoryError: Unable to allocate 3 TiB for an array"),
        task_error(
            "RuntimeError: [enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: "
            "you tried to allocate 400000000000000 bytes. Error code 12 (Cannot allocate memory)"
        ),
        died("The actor died because of an error raised in its creation task, ...\nMemoryError: std::bad_alloc"),
        RayOutOfMemoryError("Task was killed due to the node running low on memory."),
    ],
)
def test_every_kind_of_lacking_memory_is_recognized(error: Exception) -> None:
    fault = diagnose(error)
    assert fault.out_of_memory
    assert fault.reason.startswith("out of memory")
    assert "\n" not in fault.reason


def test_a_process_that_the_kernel_killed_was_out_of_memory() -> None:
    assert diagnose(died(), killed_for_memory=True).out_of_memory
    assert not diagnose(task_error("ValueError: x"), killed_for_memory=True).out_of_memory


def test_three_failures_in_a_row_without_a_new_epoch_are_the_end(tmp_path: Path) -> None:
    own = Faults(tmp_path)
    again = []
    for epoch in (None, None, 1, None, 1, None, 2, None, None, None):  # 1 twice: repeated after the restart
        if epoch is None:
            again.append(own.failed("trial", task_error("ValueError: x")))
        else:
            own.progressed("trial", epoch)
    assert again == [True, True, True, True, True, True, False]
    assert own.failed("another", task_error("ValueError: x"))


def test_nodes_that_are_taken_away_do_not_use_up_the_retries(tmp_path: Path) -> None:
    own = Faults(tmp_path)
    own.progressed("trial", 1)
    assert all(own.failed("trial", died(NODE_DIED)) for _ in range(MAX_LOST_NODES - 1))
    own.progressed("trial", 2)
    assert own.failed("trial", died(NODE_DIED))
    assert all(own.failed("trial", died()) for _ in range(2))
    assert not own.failed("trial", died())


@pytest.mark.parametrize("best_epoch", [0, 3])
def test_out_of_memory_at_the_start_is_not_tried_again_in_the_same_size(tmp_path: Path, best_epoch: int) -> None:
    own = Faults(tmp_path)
    own.progressed("trial", best_epoch)
    again = [own.failed("trial", task_error("MemoryError")) for _ in range(1 if best_epoch == 0 else 3)]
    assert again == ([False] if best_epoch == 0 else [True, True, False])
    assert own.too_large("trial")
    assert not own.too_large("another")
    own.forget("trial")
    assert not own.too_large("trial")


def test_a_kill_by_the_kernel_is_seen_in_its_counter(tmp_path: Path) -> None:
    kills = iter([5, 5, 6, 6])
    own = Faults(tmp_path, memory_kills=lambda: next(kills))
    assert own.failed("trial", died())
    assert not own.failed("trial", died())
    assert own.reason("trial") == "out of memory: the system killed its process"
    own.forget("trial")
    assert own.failed("trial", died())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_kernels_counter_is_a_number() -> None:
    assert faults.kernel_memory_kills() >= 0


def test_what_is_known_is_written_down_with_the_reason_last(tmp_path: Path) -> None:
    own = Faults(tmp_path)
    own.failed("trial", died(), "An environment step exceeded its time limit of 2 s")
    own.failed("trial", task_error("ValueError: x"))
    lines = Path(own.error_path("trial")).read_text().splitlines()
    assert [line[:9] for line in lines if line.startswith("Failure")] == ["Failure 1", "Failure 2"]
    assert STEP_LIMIT in lines
    assert lines[-1] == own.reason("trial") == "ValueError: x"
    assert lines[-2] != lines[-1]
    own.conclude("trial", "The trial is too large: make it smaller.")
    assert Path(own.error_path("trial")).read_text().splitlines()[-1] == own.reason("trial")


def test_a_folder_that_cannot_be_written_hides_no_reason(tmp_path: Path) -> None:
    (tmp_path / "trial").write_text("in the way")
    own = Faults(tmp_path)
    assert own.failed("trial", task_error("ValueError: x"))
    assert own.reason("trial") == "ValueError: x"


def test_memory_is_told_as_far_as_it_is_known() -> None:
    described: Any = faults.describe_memory(600 * 2**20, 24 * 2**30)
    assert described == "about 600 MiB were expected to be needed, the machine has 24 GiB"
    assert faults.describe_memory(0, None) == ""


def test_what_ends_tune_is_told_without_its_traceback() -> None:
    error = TuneError('Traceback (most recent call last):\n  File "x.py", line 1, in y\nOSError: no space left.\n\n')
    assert last_line(error) == "OSError: no space left"
    assert last_line(TuneError()) == "TuneError"
