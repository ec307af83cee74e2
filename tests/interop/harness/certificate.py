"""Self-signed certificates for tests, made by the openssl command."""

import subprocess

from .world import Skip


def make_certificate(certificate, key, name, address, serial=None):
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
        "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name},IP:{address}", "-out", certificate, "-keyout", key,
    ]
    if serial:
        command += ["-set_serial", str(serial)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        raise Skip("openssl is not installed") from None
