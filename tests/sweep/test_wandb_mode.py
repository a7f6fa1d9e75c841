"""Whether a sweep logs online, offline or not at all."""

from __future__ import annotations

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.sweep.wandb_support import KEY, own_home, warnings_in  # noqa: F401
from vagram_ray.sweep.wandb.mode import check_project, parse_artifacts, prepare_wandb, server_answers


def test_auto_is_online_with_a_key_and_offline_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def auto() -> str:
        monkeypatch.delenv("WANDB_MODE", raising=False)
        return prepare_wandb("auto", tmp_path)

    assert auto() == "offline"
    assert os.environ["WANDB_MODE"] == "offline"
    assert os.environ["WANDB_DIR"] == str(tmp_path)
    assert os.environ["WANDB_CONSOLE"] == "off"
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert auto() == "online"
    assert os.environ["WANDB_MODE"] == "online"
    monkeypatch.setenv("WANDB_API_KEY", "too-short")
    assert auto() == "offline"
    monkeypatch.delenv("WANDB_API_KEY")
    (Path.home() / ".netrc").write_text(f"machine wandb.example.org\n  login user\n  password {KEY}\n")
    assert auto() == "offline"  # a key for another server
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert auto() == "online"


def test_auto_follows_wandb_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    for asked, expected in (("offline", "offline"), ("disabled", "disabled"), ("online", "online")):
        monkeypatch.setenv("WANDB_MODE", asked)
        assert prepare_wandb("auto", tmp_path) == expected
    monkeypatch.delenv("WANDB_API_KEY")
    assert not warnings_in(caplog)
    monkeypatch.setenv("WANDB_MODE", "online")
    assert prepare_wandb("auto", tmp_path) == "offline"
    assert "WANDB_MODE asks for online, but there is no API key for" in warnings_in(caplog)[0]
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(ValueError, match="WANDB_MODE='ofline' is not a W&B mode"):
        prepare_wandb("auto", tmp_path)
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    settings = Path.home() / ".config" / "wandb" / "settings"
    settings.parent.mkdir(parents=True)
    settings.write_text("[default]\nmode = disabled\n")  # what `wandb disabled` leaves
    assert prepare_wandb("auto", tmp_path) == "disabled"


def test_online_without_a_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ValueError, match=r"no API key for https://.* Run `wandb login` first, or use --wandb offline\."
    ):
        prepare_wandb("online", tmp_path)
    assert "WANDB_MODE" not in os.environ
    monkeypatch.setenv("WANDB_API_KEY", "too-short")
    with pytest.raises(ValueError, match=r"is malformed: .* Run `wandb login` first, or use --wandb offline") as error:
        prepare_wandb("online", tmp_path)
    assert "too-short" not in str(error.value)
    with pytest.raises(ValueError, match="'onlin' is not known: use one of online, offline, disabled, auto"):
        prepare_wandb("onlin", tmp_path)


def test_projects_and_artifacts_as_the_command_line_takes_them() -> None:
    assert check_project("vagram_ray") == "vagram_ray"
    assert check_project("team/vagram_ray") == "team/vagram_ray"
    for wrong in ("", "team/", "/p", "a/b/c", "what?", "x" * 129):
        with pytest.raises(ValueError, match="is not usable: give PROJECT or ENTITY/PROJECT") as error:
            check_project(wrong)
        assert repr(wrong) in str(error.value)
    assert parse_artifacts("all") == ("figures", "video", "checkpoint")
    assert parse_artifacts(" checkpoint,figures,checkpoint ") == ("figures", "checkpoint")
    with pytest.raises(ValueError, match="does not know 'film': name some of figures, video, checkpoint, or all"):
        parse_artifacts("video,film")
    with pytest.raises(ValueError, match="does not know an empty list"):
        parse_artifacts(" , ")


def test_variables_that_another_program_has_left_are_ignored_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    left = {"WANDB_SWEEP_ID": "k3x9", "WANDB_RUN_ID": "job/17", "WANDB_PROJECT": "team/robots/hopper"}
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    assert prepare_wandb("offline", tmp_path) == "offline"
    assert not left.keys() & os.environ.keys()
    (warning,) = warnings_in(caplog)
    assert warning.startswith("W&B: ignored: WANDB_SWEEP_ID, WANDB_RUN_ID, WANDB_PROJECT. ")


def test_a_redirect_is_an_answer_and_wandbs_own_proxy_is_asked(
    own_home: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:1/")  # nothing listens there
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Says nothing."""

    asked: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("WANDB_BASE_URL", address)
        assert server_answers(5.0)
        monkeypatch.setenv("WANDB_BASE_URL", "http://wandb.company.invalid")
        assert not server_answers(5.0)
        monkeypatch.setenv("WANDB_HTTP_PROXY", address)
        assert server_answers(5.0)
        server.shutdown()
    assert asked == ["/", "http://wandb.company.invalid/"]
