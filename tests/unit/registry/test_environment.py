"""Misspelled settings are refused, with the name that was meant."""

import pytest

from registry.config import Settings
from registry.environment import read_settings, unknown
from registry.errors import ConfigError


def lines(*variables: str) -> list[str]:
    return list(unknown(dict.fromkeys(variables, "1"), Settings.model_fields))


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("CRISPER_MAXIMAGE", "CRISPER_MAX_IMAGE_BYTES"),
        ("CRISPER_MAX_IMAGE_BYTE", "CRISPER_MAX_IMAGE_BYTES"),
        ("CRISPER_REDISURL", "CRISPER_REDIS_URL"),
        ("CRISPER_TLS_CERTIFICATE", "CRISPER_TLS_CERT"),
        ("CRISPER_PUBLICURL", "CRISPER_PUBLIC_URL"),
        ("crisper_worker", "CRISPER_WORKERS"),
        ("CRISPER_INSECURE_REGISTRY", "CRISPER_INSECURE_REGISTRIES"),
    ],
)
def test_a_misspelled_setting_names_the_one_that_was_meant(variable: str, meant: str) -> None:
    assert lines(variable) == [f"{variable}: did you mean {meant}?"]


def test_a_variable_that_resembles_no_setting_is_to_be_unset() -> None:
    assert lines("CRISPER_QQQQ") == ["CRISPER_QQQQ: unset it"]


@pytest.mark.parametrize(
    "variable",
    [
        *("CRISPER_PORT", "crisper_port", "CRISPER_URL", "CRISPER_NODE_SECRET", "CRISPER_TEST_KILLS"),
        *("CRISPER_SERVICE_HOST", "CRISPER_PULL_SERVICE_PORT_HTTPS", "CRISPER_PORT_443_TCP_ADDR"),
        *("CRISPER_REDIS_PORT", "CRISPERY", "PATH"),
    ],
)
def test_other_variables_are_accepted(variable: str) -> None:
    assert lines(variable) == []


def test_settings_are_not_read_beside_a_misspelled_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRISPER_PUBLIC_URI", "https://registry.example.com")
    with pytest.raises(ConfigError, match=r"CRISPER_PUBLIC_URI: did you mean CRISPER_PUBLIC_URL\?"):
        read_settings()
    monkeypatch.delenv("CRISPER_PUBLIC_URI")
    assert read_settings(port=0).port == 0
