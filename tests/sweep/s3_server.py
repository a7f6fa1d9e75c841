"""An S3 server of one's own: moto's, in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyarrow.fs import FileSelector, FileSystem, FileType

pytest.importorskip("moto.server", reason="moto's S3 server is not installed (moto[server])")
BUCKET = "results-of-tests"


@dataclass(frozen=True)
class S3Server:
    """A server that runs, and how a process is told of it."""

    address: str
    pid: int

    @property
    def environment(self) -> dict[str, str]:
        """What a process that uses the server has in its environment."""
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def uri(self, path: str) -> str:
        """Of a place in the bucket."""
        return f"s3://{BUCKET}/{path}"


@contextmanager
def s3_server(log: Path) -> Iterator[S3Server]:
    """A server with one empty bucket; it forgets everything at the end. This process is told of it too."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with log.open("w") as output, pytest.MonkeyPatch.context() as patch:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            server = S3Server(f"http://127.0.0.1:{port}", process.pid)
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                patch.delenv(name)
            for name, value in server.environment.items():
                patch.setenv(name, value)
            _wait_for(server, process, log)
            filesystem, path = FileSystem.from_uri(f"s3://{BUCKET}?allow_bucket_creation=true")
            filesystem.create_dir(path)
            yield server
        finally:
            process.kill()
            process.wait()


def _wait_for(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(f"{server.address}/moto-api/", timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"the S3 server does not answer:\n{log.read_text()}")


def listed(filesystem: FileSystem, path: str) -> set[str]:
    """All files below a folder, relative to it."""
    infos = filesystem.get_file_info(FileSelector(path, recursive=True, allow_not_found=True))
    return {info.path.removeprefix(f"{path}/") for info in infos if info.type == FileType.File}


def download(uri: str, folder: Path) -> Path:
    """Copy all files below a URI to a folder."""
    filesystem, path = FileSystem.from_uri(uri)
    for name in listed(filesystem, path):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with filesystem.open_input_stream(f"{path}/{name}") as stream:
            target.write_bytes(stream.read())
    return folder
