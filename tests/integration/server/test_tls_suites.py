"""Which cipher suite a connection gets."""

import re
import subprocess

import pytest

from tests.support.certified import Certified

AES_128, AES_256, CHACHA = "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"


@pytest.mark.parametrize("offered", [(AES_128, AES_256), (AES_256, AES_128), (CHACHA, AES_128)])
def test_the_client_which_knows_its_processor_chooses(certified: Certified, offered: tuple[str, str]) -> None:
    address = certified.server.url.removeprefix("https://")
    argv = ["openssl", "s_client", "-connect", address, "-ciphersuites", ":".join(offered)]
    said = subprocess.run(argv, input=b"", capture_output=True, timeout=60, check=True).stdout.decode()
    agreed = re.search(r"New, TLSv1\.3, Cipher is (\w+)", said)
    assert agreed is not None
    assert agreed[1] == offered[0]
