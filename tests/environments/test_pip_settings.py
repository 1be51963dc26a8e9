"""uv is told the places, certificates and limits that pip is configured with."""

from pathlib import Path

import pytest

from environments.pip_settings import parse_pip_configuration, uv_settings
from environments.pythons import base_python
from environments.setup import ROOT, pip_settings


def test_variables_override_files_and_the_command_overrides_the_rest() -> None:
    listing = "\n".join(
        [
            ":env:.find-links='/from/variable'",
            "global.find-links='/from/file'",
            "global.index-url='https://global.example/simple'",
            "install.index-url='https://install.example/simple'",
            "global.extra-index-url='\\nhttps://a.example/simple\\nhttps://b.example/simple'",
            "freeze.timeout='1'",
            ":env:.cert=''",
        ]
    )
    settings = parse_pip_configuration(listing)
    assert settings["find-links"] == "/from/variable"
    assert settings["index-url"] == "https://install.example/simple"
    assert settings["extra-index-url"].split() == [
        "https://a.example/simple",
        "https://b.example/simple",
    ]
    assert "timeout" not in settings
    assert "cert" not in settings


def test_pip_itself_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = tmp_path / "pip.conf"
    configuration.write_text("[global]\nextra-index-url = https://a.example/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(configuration))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    # Debian's Python has no pip: then it is that of the environment which holds uv.
    options = pip_settings(ROOT, base_python()).options
    assert ("--find-links", str(tmp_path), "--index", "https://a.example/simple") == options[:4]


def test_places_become_options_and_missing_local_ones_are_left_out(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    pip = {
        "find-links": f"{wheels} {tmp_path / 'gone'}",
        "extra-index-url": f"{wheels.as_uri()} file://{tmp_path}/gone https://a.example/simple",
        "index-url": "https://mirror.example/simple",
        "trusted-host": "a.example",
    }
    settings = uv_settings(pip, environ={})
    assert settings.options == (
        *("--find-links", str(wheels)),
        *("--index", wheels.as_uri()),
        *("--index", "https://a.example/simple"),
        *("--index-strategy", "unsafe-best-match"),
        *("--default-index", "https://mirror.example/simple"),
        *("--allow-insecure-host", "a.example"),
    )
    assert "find-links left out, not there: 1" in settings.notes


def test_notes_hold_no_address_as_it_may_hold_a_password() -> None:
    pip = {"index-url": "https://user:secret@mirror.example/simple"}
    notes = " ".join(uv_settings(pip, environ={}).notes)
    assert notes
    assert "secret" not in notes
    assert "://" not in notes


def test_an_index_named_to_uv_itself_stays_in_force() -> None:
    pip = {"index-url": "https://mirror.example/simple"}
    assert uv_settings(pip, environ={"UV_DEFAULT_INDEX": "https://mine.example"}).options == ()


def test_certificates_proxy_and_timeout_become_variables_unless_set() -> None:
    pip = {"cert": "/ca.pem", "proxy": "http://proxy.example:3128", "default-timeout": "180"}
    variables = uv_settings(pip, environ={"https_proxy": "http://own.example"}).variables
    assert variables == {
        "SSL_CERT_FILE": "/ca.pem",
        "HTTP_PROXY": "http://proxy.example:3128",
        "UV_HTTP_TIMEOUT": "180",
    }


def test_no_index_is_kept() -> None:
    assert uv_settings({"no-index": "true"}, environ={}).options == ("--no-index",)
