"""Facts of this server's process and machine, for the system page."""

import shutil
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from cryptography import x509


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What the system page shows of this process; other processes of the server can differ.

    Attributes:
        free_bytes: Free space where the data folder is.
        certificate_ends: End of the server's certificate; None without one, or if it cannot be read.
    """

    version: str
    started_at: datetime
    free_bytes: int
    certificate_ends: datetime | None


def host_facts(data: Path, certificate: Path | None, started_at: datetime) -> HostFacts:
    """Return the present facts. Reads two files."""
    free_bytes = shutil.disk_usage(data).free
    return HostFacts(version("crisper-registry"), started_at, free_bytes, _end_of(certificate))


def _end_of(certificate: Path | None) -> datetime | None:
    try:
        read = x509.load_pem_x509_certificate(certificate.read_bytes()) if certificate else None
    except (OSError, ValueError):
        return None
    return read.not_valid_after_utc if read else None
