"""Certificate signing requests (RFC 2986), of which only the public key is taken."""

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from auth.errors import CertificateRequestError

NodePublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey

_MAX_PEM_CHARS = 16 << 10
_CURVES = (ec.SECP256R1, ec.SECP384R1)
_RSA_BITS = range(2048, 4096 + 1)


def read_public_key(pem: str) -> NodePublicKey:
    """Return a request's public key; names and extensions that it asks for are ignored.

    The key is bounded before its signature is checked: verifying with an oversized one is work for us.

    Raises:
        CertificateRequestError: It cannot be read, its key is not of a kind that nodes may have, or it
            is not signed by that key.
    """
    if len(pem) > _MAX_PEM_CHARS or not pem.isascii():
        raise CertificateRequestError("the request is too long, or not PEM")
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        key = request.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CertificateRequestError("the request is not a PEM certificate signing request") from None
    bounded = _bounded(key)
    try:
        signed = request.is_signature_valid
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        signed = False
    if not signed:
        raise CertificateRequestError("the request is not signed by its own key")
    return bounded


def _bounded(key: object) -> NodePublicKey:
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES):
        return key
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, rsa.RSAPublicKey) and key.key_size in _RSA_BITS:
        return key
    raise CertificateRequestError("use a key on P-256 or P-384, an Ed25519 key, or RSA of 2048 to 4096 bits")
