"""HTTPS that goes out: callbacks of jobs and remote models trust whom the system trusts, and nobody else."""

import ssl

import pytest
import trustme
from harness import PATIENCE_S
from openai_server import KEY, OpenAiServer
from test_jobs_callbacks import BODY, MODEL, SECRET, Receiver, lines, submit
from test_remote import ask, model, outputs, remote

AUTHORITY = trustme.CA()


@pytest.fixture(scope="module")
def trusting(tmp_path_factory):
    """The environment of a server that trusts our authority and no other."""
    path = tmp_path_factory.mktemp("trust") / "ca.pem"
    AUTHORITY.cert_pem.write_to_path(str(path))
    return {"SSL_CERT_FILE": str(path)}


def behind_tls(server, host="127.0.0.1"):
    """Makes a listening server of the tests speak TLS, with a certificate for `host`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(host).configure_cert(context)
    server.server.socket = context.wrap_socket(server.server.socket, server_side=True)
    server.url = server.url.replace("http:", "https:")
    return server


@pytest.fixture(params=["127.0.0.1", "elsewhere.example"])
def receiver(request):
    receiver = behind_tls(Receiver(), request.param)
    receiver.is_named_right = request.param == "127.0.0.1"
    yield receiver
    receiver.close()


@pytest.mark.parametrize("trusts", [True, False], ids=["trusting", "not trusting"])
def test_a_callback_is_sent_to_whom_the_certificate_names(start, trusting, receiver, trusts):
    environment = {"SALVER_CALLBACK_SECRET": SECRET, **(trusting if trusts else {})}
    server = start(MODEL, "--callback-allow", "127.0.0.0/8", "--callback-retry-ms", "1", env=environment)
    job = submit(server, "half_plus_two", BODY, callback_url=receiver.url)
    if trusts and receiver.is_named_right:
        _, event = receiver.next()
        assert event["type"] == "job.done"
        server.until(lambda: any("callback: 200" in line for line in lines(server, job)), "told")
    else:
        server.until(lambda: any("certificate" in line for line in lines(server, job)), "refused")
        assert receiver.received.empty(), "nothing is said before the certificate is checked"


@pytest.mark.parametrize("trusts", [True, False], ids=["trusting", "not trusting"])
def test_a_remote_model_is_asked_over_tls(start, tmp_path, trusting, trusts):
    upstream = behind_tls(OpenAiServer())
    folder = model(tmp_path, "writer", remote(upstream.url, more='model = "gpt"'))
    server = start(folder, "--remote-allow", "127.0.0.1", env={"TEST_KEY": KEY, **(trusting if trusts else {})})
    answer = ask(server)
    if trusts:
        assert answer.status_code == 200 and outputs(answer), answer.text
        assert upstream.headers[0]["authorization"] == f"Bearer {KEY}"
    else:
        assert answer.status_code in (502, 503), answer.text
        assert not upstream.headers, "the key goes to nobody whose certificate is not good"
    upstream.close()
