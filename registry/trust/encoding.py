"""Strict decoding of the encodings in signatures."""

import base64
import binascii

from registry.errors import SignatureError


def decode_base64(text: object, what: str) -> bytes:
    """Decode base64 (RFC 4648, section 4). Raises SignatureError."""
    if not isinstance(text, str):
        raise SignatureError(f"without {what}")
    try:
        return base64.b64decode(text.encode(), validate=True)
    except (binascii.Error, ValueError):
        raise SignatureError(f"with {what} that is not valid base64") from None


def decode_base64url(text: object, what: str) -> bytes:
    """Decode base64url without padding (RFC 7515, section 2). Raises SignatureError."""
    if not isinstance(text, str) or "=" in text or "+" in text or "/" in text:
        raise SignatureError(f"with {what} that is not valid base64url")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise SignatureError(f"with {what} that is not valid base64url") from None
