"""Signed statements: DSSE envelopes (https://github.com/secure-systems-lab/dsse) with an Ed25519 or ECDSA key.

conf names the public key, so what auditors trust is under version control; the private key is a file that the variable
TINSMITH_SIGNING_KEY names, outside the repository and the cache. An envelope without signatures is an unsigned one.
"""

from __future__ import annotations

import base64
import copy
import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

from stages.lineage.errors import KeyRefused

VARIABLE = "TINSMITH_SIGNING_KEY"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
KINDS = ("ed25519", "ecdsa")


def generate(path: Path, kind: str) -> str:
    """Write a new private key that only its owner can read, where nothing publishes it.

    Args:
        path: the private key, PKCS #8 in PEM.
        kind: `ed25519`, or `ecdsa` (P-256, which OpenSSF's model signatures need).

    Returns:
        The public key as conf/signing wants it: SubjectPublicKeyInfo in hex.

    Raises:
        KeyRefused: there is a file already, or the place is the repository or the cache.
    """
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    _check_place(path)
    private = ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(ec.SECP256R1())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise KeyRefused(f"'{path}' exists", next_step="give another path; keys are never overwritten") from error
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return _public_text(private)


def load(public: str) -> tuple[Path, Any]:
    """Open the private key that the environment names.

    Args:
        public: the public key of conf/signing.

    Returns:
        The key's path, and a signer.

    Raises:
        KeyRefused: none is named, it is unreadable or readable by others, it lies where it must not, or it
            is another's.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner

    named = os.environ.get(VARIABLE)
    if not named:
        raise KeyRefused(
            f"conf/signing asks for signatures and {VARIABLE} names no key",
            next_step=f"export {VARIABLE}=/path/to/key, or compose with `signing.public_key=null` to ship unsigned",
        )
    path = Path(named)
    _check_place(path)
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise KeyRefused(f"'{path}' can be read by others", next_step=f"chmod 600 '{path}'")
        private = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise KeyRefused(
            f"cannot read the signing key '{path}': {error}", expected="an unencrypted PKCS #8 key in PEM"
        ) from error
    if _public_text(private) != public:
        raise KeyRefused(
            f"'{path}' is not the key whose public half stands in conf/signing",
            next_step=f"compose with `signing.public_key={_public_text(private)}`, or name the other key",
        )
    return path, CryptoSigner(private)


def seal(statement: Any, signer: Any | None) -> bytes:
    """Put a statement into an envelope, signed if there is a signer."""
    payload = base64.b64encode(canonical(statement)).decode()
    document = {"payload": payload, "payloadType": PAYLOAD_TYPE, "signatures": []}
    if signer:
        from securesystemslib.dsse import Envelope

        envelope = Envelope.from_dict(document)
        envelope.sign(signer)
        document = envelope.to_dict()
    return canonical(document)


def open_sealed(content: bytes) -> tuple[Any, Any]:
    """Read an envelope.

    Returns:
        The statement and the envelope.

    Raises:
        ValueError: it is not what `seal` writes, byte for byte.
    """
    try:
        envelope = json.loads(content)
        payload = base64.b64decode(envelope["payload"], validate=True)
        statement = json.loads(payload)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"no DSSE envelope: {error!r}") from error
    if canonical(envelope) != content or canonical(statement) != payload:
        raise ValueError("not written as a release writes it")
    if set(envelope) != {"payload", "payloadType", "signatures"} or envelope["payloadType"] != PAYLOAD_TYPE:
        raise ValueError(f"not an envelope of type '{PAYLOAD_TYPE}'")
    return statement, envelope


def check(envelope: Any, public: str) -> str:
    """Return why an envelope is not signed by a key, empty when it is."""
    from cryptography.hazmat.primitives.serialization import load_der_public_key
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import FormatError, VerificationError
    from securesystemslib.signer import SSlibKey

    try:
        key = SSlibKey.from_crypto(load_der_public_key(bytes.fromhex(public)))
    except ValueError as error:
        raise KeyRefused(
            f"'{public[:24]}…' is no public key", expected="what `python -m stages.keygen` prints"
        ) from error
    try:
        opened = Envelope.from_dict(copy.deepcopy(envelope))  # it takes what it reads out of its argument
        if set(opened.signatures) == {key.keyid}:
            opened.verify([key], 1)
            return ""
    except (FormatError, VerificationError, KeyError, TypeError, ValueError):
        return f"its signature by key {key.keyid[:12]} does not verify"
    signers = ", ".join(sorted(keyid[:12] for keyid in opened.signatures)) or "nobody"
    return f"signed by {signers}, not by key {key.keyid[:12]}"


def canonical(value: Any) -> bytes:
    """Write JSON in the one way that every byte of an envelope can be checked against."""
    return (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def public_key(params_file: Path) -> str | None:
    """Return the public key that params.yaml trusts, None where it trusts none or there is no params.yaml."""
    if not params_file.is_file():
        return None
    from stages.core.params import read

    found = read(params_file).get("signing", {}).get("public_key")
    return str(found) if found else None


def _public_text(private: Any) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    found: bytes = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return found.hex()


def _check_place(path: Path) -> None:
    """Refuse the repository, which is published, and the cache, which is shared."""
    for place in _published():
        if path.resolve().is_relative_to(place):
            raise KeyRefused(
                f"the signing key '{path}' lies inside '{place}'",
                expected="a place outside the repository and the DVC cache",
                next_step="move it, e.g. to ~/.config/tinsmith/",
            )


def _published() -> list[Path]:
    try:
        done = subprocess.run(["git", "rev-parse", "--show-toplevel"], capture_output=True, text=True, check=False)
        top = done.stdout.strip()
    except FileNotFoundError:  # a source archive, built where there is no git
        top = ""
    places = [Path(top) if top else Path.cwd()]
    if Path(".dvc").is_dir():
        from stages.lineage.lock import cache_directory

        places.append(cache_directory())
    return [place.resolve() for place in places]
