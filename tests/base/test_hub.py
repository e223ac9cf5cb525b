"""Copies of Hub repositories where the Hub does not answer; the client is the real one, with a cache of its own layout."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest

from tune_accent.base.hub import NoCopy, _silence, cached_copy, hub_copy, is_hub_id
from tune_accent.base.log import only_errors_of

REVISION = "a" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a Hub at an address where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.utils._http.http_backoff", lambda *_, **__: pytest.fail("it is not asked"))
    return tmp_path


def test_what_was_fetched_before_is_found_without_the_hub(cache: Path) -> None:
    folder = cache / "models--someone--Model" / "snapshots" / REVISION
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder.parents[1] / "refs").mkdir()
    (folder.parents[1] / "refs" / "main").write_text(REVISION)
    seen: list[Path] = []
    assert hub_copy("someone/Model", ["*.json"], look=seen.append) == folder == seen[0] == cached_copy("someone/Model")
    assert cached_copy("someone/Else") is None and cached_copy("some--one/Model") is None, "absent, and no name of the Hub's"
    with pytest.raises(NoCopy):
        hub_copy("someone/Model", ["*.json"], "dataset")


def test_what_was_not_fetched_says_that_the_hub_does_not_answer(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoCopy, match=r"^127\.0\.0\.1:\d+ does not answer \(Connection refused\), and it was not fetched before$"):
        hub_copy("someone/Model", ["*.json"])
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://nowhere.invalid")
    with pytest.raises(NoCopy, match=r"^nowhere\.invalid does not answer"):
        hub_copy("someone/Model", ["*.json"])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NoCopy, match=r"^HF_HUB_OFFLINE is set, and it was not fetched before$"):
        hub_copy("someone/Model", ["*.json"])


def test_a_proxy_is_left_to_the_client(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.invalid:1")
    assert _silence() is not None, "the proxy is for another scheme"
    monkeypatch.setenv("http_proxy", "http://proxy.invalid:1")
    assert _silence() is None


def test_a_hub_that_answers_is_asked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert _silence() is None


def test_the_client_tells_of_its_tries_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    client = logging.getLogger("huggingface_hub.utils._http")
    for _ in range(2):
        with only_errors_of("huggingface_hub"):
            client.warning("Retrying in 1s")
    assert caplog.text == ""
    client.warning("afterwards")
    assert "afterwards" in caplog.text


def test_ids_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    assert is_hub_id("Qwen/Qwen3-TTS-12Hz-0.6B-Base")
    for name in ("tiny", "a/b/c", "./a", "/a", "~/a", "here/a", "models/a", "../a", "a/", ""):
        assert not is_hub_id(name), name
