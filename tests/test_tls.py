"""TLS: what certificates are refused, and that a renewed one is shown without a restart."""

from __future__ import annotations

import socket
import ssl
import threading

import pytest

from certificates import write_certificate
from greenroom.access.tls import Certificate, require_certificate, trusting
from greenroom.errors import SettingsError
from greenroom.settings import Settings


def settings(pem) -> Settings:
    return Settings(ssl_certfile=str(pem.certfile), ssl_keyfile=str(pem.keyfile))


def shown(certificate: Certificate, *, server_name: str | None = None) -> bytes:
    """Connect, and return the certificate that the client sees."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with certificate.context.wrap_socket(theirs, server_side=True) as connection:
            connection.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    with client.wrap_socket(ours, server_hostname=server_name) as connection:
        seen = connection.getpeercert(binary_form=True)
        connection.send(b"x")
    thread.join()
    return seen


def written(pem) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.certfile.read_text())


def test_a_server_without_a_certificate_speaks_http():
    assert Certificate.of(Settings()) is None


@pytest.mark.parametrize("server_name", [None, "localhost"])
def test_the_certificate_is_shown_whatever_name_is_asked_for(tmp_path, server_name):
    pem = write_certificate(tmp_path)
    assert shown(Certificate.of(settings(pem)), server_name=server_name) == written(pem)


@pytest.mark.parametrize("server_name", [None, "localhost"])
def test_a_renewed_certificate_is_shown_to_the_next_who_connects(tmp_path, server_name):
    certificate = Certificate(*write_certificate(tmp_path), monotonic_s=iter(range(99)).__next__)
    before = shown(certificate, server_name=server_name)
    renewed = write_certificate(tmp_path)
    after = shown(certificate, server_name=server_name)
    assert before != after == written(renewed)


def test_while_the_new_files_do_not_fit_together_the_old_certificate_goes_on(tmp_path, caplog):
    pem = write_certificate(tmp_path)
    certificate = Certificate(*pem, monotonic_s=iter(range(99)).__next__)
    before = shown(certificate)
    old_key = pem.keyfile.read_bytes()
    write_certificate(tmp_path)
    new_key = pem.keyfile.read_bytes()
    pem.keyfile.write_bytes(old_key)
    assert shown(certificate) == shown(certificate) == before
    assert caplog.text.count("the certificate that was read last goes on") == 1

    pem.keyfile.write_bytes(new_key)
    assert shown(certificate) == written(pem)


@pytest.mark.parametrize("given", ["ssl_certfile", "ssl_keyfile"])
def test_one_file_without_the_other_is_refused(given):
    with pytest.raises(SettingsError, match="is not set, and the other file of the two is"):
        require_certificate(Settings(**{given: "/tls.pem"}))


def test_a_file_that_is_not_there_is_named(tmp_path):
    pem = write_certificate(tmp_path)
    pem.keyfile.unlink()
    with pytest.raises(SettingsError, match=r"tls\.key cannot be read: No such file"):
        require_certificate(settings(pem))


def test_a_key_of_another_certificate_is_refused(tmp_path):
    pem = write_certificate(tmp_path)
    (tmp_path / "other").mkdir()
    pem.keyfile.write_bytes(write_certificate(tmp_path / "other").keyfile.read_bytes())
    with pytest.raises(SettingsError, match="KEY_VALUES_MISMATCH"):
        require_certificate(settings(pem))


@pytest.mark.parametrize("content", [b"", b"no PEM", b"\xff\x00"])
def test_a_file_that_is_no_certificate_is_refused(tmp_path, content):
    pem = write_certificate(tmp_path)
    pem.certfile.write_bytes(content)
    with pytest.raises(SettingsError, match="are no certificate with its key"):
        require_certificate(settings(pem))


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(tmp_path):
    pem = write_certificate(tmp_path, passphrase="p")
    with pytest.raises(SettingsError, match="is encrypted"):
        require_certificate(settings(pem))


def test_a_client_on_the_same_machine_trusts_this_certificate_alone(tmp_path):
    pem = write_certificate(tmp_path)
    (tmp_path / "other").mkdir()
    other = write_certificate(tmp_path / "other")
    context = trusting(settings(pem))

    def connects(to) -> bool:
        ours, theirs = socket.socketpair()
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(to.certfile, to.keyfile)

        def serve() -> None:
            try:
                with server.wrap_socket(theirs, server_side=True) as connection:
                    connection.recv(1)
            except OSError:
                theirs.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with context.wrap_socket(ours) as connection:
                connection.send(b"x")
        except ssl.SSLCertVerificationError:
            ours.close()
            return False
        finally:
            thread.join()
        return True

    assert connects(pem)
    assert not connects(other)
