"""The files of a Ray that a sweep starts for itself."""

from __future__ import annotations

import atexit
import shutil


def remove_files_at_exit() -> None:
    """Remove logs and sockets of the Ray in this process when the process ends; of one that runs elsewhere, nothing.

    Ray keeps them in its temporary folder for ever, a megabyte or more for every start. What trials have printed lies
    with the results.
    """
    import ray

    node = ray._private.worker._global_node
    if node is None or not node.head:
        return
    folder = node.get_session_dir_path()

    def remove() -> None:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
