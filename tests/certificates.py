"""Certificates for the tests, made with the command `openssl`."""

import subprocess
from pathlib import Path


def make_certificate(folder: Path, name: str, days: int = 10) -> tuple[Path, Path]:
    """A certificate for localhost that has signed itself, and its key: `NAME.pem`, `NAME.key`.

    The key is PKCS#8 without a password. With negative `days` the certificate has expired.
    """
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
    extensions.write_text("subjectAltName=DNS:localhost\nbasicConstraints=critical,CA:TRUE\n")
    new_key = ("-newkey", "rsa:2048", "-nodes", "-keyout", key)
    openssl("req", "-new", *new_key, "-subj", f"/CN={name}", "-out", request)
    signed = ("-signkey", key, "-days", days, "-extfile", extensions)
    openssl("x509", "-req", "-in", request, *signed, "-out", certificate)
    return certificate, key


def openssl(*arguments: object) -> None:
    """Run a command of openssl."""
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
