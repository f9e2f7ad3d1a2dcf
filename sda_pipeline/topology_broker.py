"""The topology's ``broker`` and ``kafka``: their keys, defaults and bounds. Asks no broker.

Not what a client is made with (broker/kafka_settings.py): of a secret, only where it will be.
"""

from __future__ import annotations

from pathlib import Path

from sda_pipeline.broker.kafka_settings import (
    MECHANISMS,
    SCHEME,
    SECURITY,
    KafkaSettings,
    servers_of,
)
from sda_pipeline.errors import InvalidConfiguration
from sda_pipeline.topology_yaml import Section

GROUP = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}"
VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
REPLICATION_MAX = 32
_TLS_ONLY = ("ca_file", "certificate_file", "key_file")
_SASL_ONLY = ("sasl_mechanism", "username", "password_env", "password_file")


def broker_of(root: Section, base: Path) -> str:
    """The broker's URL, with an absolute directory or with ports."""
    url = root.text("broker")
    scheme, _, rest = url.partition(":")
    if url.startswith(SCHEME):
        try:
            return SCHEME + servers_of(url)
        except InvalidConfiguration as error:
            root.fault("broker", f"{error.why}; {error.hint}")
            return ""
    if url and (scheme != "embedded" or not rest):
        known = f"write embedded:DIRECTORY or {SCHEME}HOST:PORT"
        root.fault("broker", f"{url!r} is not known; {known}")
    return f"embedded:{(base / rest).resolve()}"


def kafka_of(root: Section, base: Path) -> KafkaSettings:
    """The section ``kafka``; its defaults when there is none."""
    section, default = root.section("kafka"), KafkaSettings()
    if section.node is not None and not root.text("broker").startswith(SCHEME):
        root.fault("kafka", f"needs a broker {SCHEME}HOST:PORT")
    if section.has("password"):
        section.fault("password", "no secret stands in this file; write password_env: VARIABLE")
    security = section.choice("security", default.security, [*SECURITY])
    group = section.text("group", pattern=GROUP) if section.has("group") else ""
    settings = KafkaSettings(
        security=security,
        **{key: _file(section, key, base) for key in _TLS_ONLY},
        sasl_mechanism=section.choice("sasl_mechanism", default.sasl_mechanism, MECHANISMS),
        username=section.text("username", ""),
        password_env=section.text("password_env", pattern=VARIABLE)
        if section.has("password_env")
        else "",
        password_file=_file(section, "password_file", base),
        group=group,
        replication=section.whole("replication", default.replication, low=-1, high=REPLICATION_MAX),
        timeout_s=section.number("timeout_s", default.timeout_s, low=0.1, high=30),
    )
    _check(section, settings)
    section.close()
    return settings


def _file(section: Section, key: str, base: Path) -> Path | None:
    return (base / section.text(key)).resolve() if section.has(key) else None


def _check(section: Section, settings: KafkaSettings) -> None:
    if settings.replication == 0:
        section.fault("replication", "0 is no number of replicas; -1 is the broker's default")
    if (settings.certificate_file is None) != (settings.key_file is None):
        section.fault("certificate_file", "and key_file go together")
    for key in _TLS_ONLY if not settings.tls else ():
        if section.has(key):
            section.fault(key, f"means nothing with security {settings.security}")
    for key in _SASL_ONLY if not settings.sasl else ():
        if section.has(key):
            section.fault(key, f"means nothing with security {settings.security}")
    if settings.sasl:
        if not settings.username:
            section.fault("username", f"is required with security {settings.security}")
        if bool(settings.password_env) == (settings.password_file is not None):
            section.fault("password_env", "or password_file is required, one of them")
