"""Certificate signing requests (RFC 2986), of which only the public key is used."""

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from auth.errors import CertificateRequestError

NodePublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey

_MAX_PEM_CHARS = 16 << 10
_CURVES = (ec.SECP256R1, ec.SECP384R1)
_RSA_BITS = range(2048, 4096 + 1)
_RSA_EXPONENT = 65537  # others are weak (3), or slow to verify; all common tools use this one


def read_public_key(pem: str) -> NodePublicKey:
    """Return a request's public key. Ignores its names and extensions.

    The key's size is checked before the signature, because verification with an oversized key is expensive.

    Raises:
        CertificateRequestError: The request is invalid, its kind of key is not allowed, or it is not
            signed with its own key.
    """
    if len(pem) > _MAX_PEM_CHARS or not pem.isascii():
        raise CertificateRequestError("the certificate signing request is too long, or not PEM")
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        key = request.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CertificateRequestError("send a certificate signing request in PEM form") from None
    bounded = _bounded(key)
    try:
        signed = request.is_signature_valid
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        signed = False
    if not signed:
        raise CertificateRequestError("the certificate signing request is not signed with its own key")
    return bounded


def _bounded(key: object) -> NodePublicKey:
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES):
        return key
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, rsa.RSAPublicKey) and key.key_size in _RSA_BITS:
        numbers = key.public_numbers()
        if numbers.e == _RSA_EXPONENT and numbers.n % 2:
            return key
    raise CertificateRequestError(
        "use a P-256, P-384 or Ed25519 key, or an RSA key with 2048 to 4096 bits and the exponent 65537"
    )
