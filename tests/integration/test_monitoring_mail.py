# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""From a figure to a mail: real Prometheus, real Alertmanager, a real mail server with TLS and a password."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.integration.support import wait_until
from tests.integration.watchers import asked, exporter, firing, needs_them, rendered, rules, running
from tests.ports import free_port
from tests.sinks import http_sink

pytestmark = needs_them
PASSWORD = "right horse"
# What a cluster of two nodes tells: one is gone, and so degraded as well; two GPUs of the other are held down.
BAD = """\
ugro_node_state{node="gpu1",state="unreachable"} 1
ugro_node_state{node="gpu1",state="degraded"} 1
ugro_node_state{node="gpu2",state="degraded"} 1
ugro_gpu_throttled{node="gpu2",gpu="0",uuid="GPU-1"} 1
ugro_gpu_throttled{node="gpu2",gpu="1",uuid="GPU-2"} 1
ugro_job_ranks_standing_still{ugro_job="first_test"} 2
"""
GOOD = BAD.replace("} 1", "} 0").replace("} 2", "} 0")


class Box:
    """What the mail server took, and whom it let in."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.to: list[list[str]] = []
        self.refused = 0

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        self.mails.append(message_from_bytes(envelope.content or b"", policy=policy.default))  # type: ignore[arg-type]
        self.to.append(list(envelope.rcpt_tos))
        return "250 taken"

    def let_in(self, _server: SMTP, _session: Session, _envelope: Envelope, _how: str, data: object) -> AuthResult:
        well = isinstance(data, LoginPassword) and (data.login, data.password) == (b"ugro", PASSWORD.encode())
        self.refused += not well
        return AuthResult(success=well, handled=well)

    def subjects(self) -> list[str]:
        return [str(mail["Subject"]) for mail in self.mails]

    def text(self, subject: str) -> str:
        (mail,) = [mail for mail in self.mails if mail["Subject"] == subject]
        assert mail.get_content_type() == "multipart/alternative" or mail.get_content_type() == "text/plain"
        body = mail.get_body(("plain",))
        assert body is not None
        return str(body.get_content())


@contextmanager
def mail_server(box: Box, port: int, pair: tuple[Path, Path]) -> Iterator[None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    controller = Controller(
        box, hostname="127.0.0.1", port=port, tls_context=context, require_starttls=True,
        authenticator=box.let_in, auth_required=True, server_hostname="mail.example.org",
        auth_exclude_mechanism=["LOGIN"],  # whose prompts are not those that Alertmanager knows
    )  # fmt: skip
    controller.start()
    try:
        yield
    finally:
        controller.stop()


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of the mail server, signed by itself, and its key."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
            "2", "-subj", "/CN=mail", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate,
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


@pytest.mark.timeout(900)  # on a busy machine
def test_what_is_wrong_is_mailed_and_its_end_too(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    prometheus, alertmanager, smtp = free_port(), free_port(), free_port()
    config, box, log = tmp_path / "etc", Box(), tmp_path / "alertmanager.log"
    with exporter(GOOD) as figures, http_sink() as chat:
        variables = {
            "inventory_hostname": "gpu-master", "monitoring_agent": f"127.0.0.1:{figures.port}",
            "monitoring_scrape_interval": "1s", "monitoring_listen": "127.0.0.1",
            "monitoring_prometheus_port": prometheus, "monitoring_alertmanager_port": alertmanager,
            "monitoring_email_to": "ob@example.org", "monitoring_smtp": f"localhost:{smtp}",
            "monitoring_smtp_user": "ugro", "monitoring_smtp_password": "x", "monitoring_smtp_ca": str(pair[0]),
            "monitoring_slack": "x", "monitoring_dashboard": "http://gpu-master:8080",
        }  # fmt: skip
        rendered("ugro.tmpl.j2", config, **variables)
        settings = rendered("alertmanager.yml.j2", config, **variables)
        # People are told after ten seconds, and of changes once a minute: too long for a test.
        text = settings.read_text()
        assert text.count("group_wait: 10s") == text.count("group_interval: 1m") == 1
        settings.write_text(text.replace("group_wait: 10s", "group_wait: 1s").replace("interval: 1m", "interval: 2s"))
        (config / "smtp.password").write_text("lame donkey")
        (config / "slack.url").write_text(f"http://127.0.0.1:{chat.port}/hook")
        (config / "ugro.token").write_text("any")
        rules(config)
        scraped = rendered("prometheus.yml.j2", config, **variables)
        options = (f"--config.file={settings}", f"--storage.path={tmp_path / 'am'}", "--cluster.listen-address=")
        tsdb = (f"--config.file={scraped}", f"--storage.tsdb.path={tmp_path / 'tsdb'}")
        with (
            running("prometheus-alertmanager", alertmanager, log, *options),
            running("prometheus", prometheus, tmp_path / "prometheus.log", *tsdb),
        ):
            with mail_server(box, smtp, pair):
                wait_until(lambda: asked(prometheus, "ugro_node_state"), "Prometheus has figures", 120, every_s=0.2)
                figures.text = BAD
                # A wrong password: the mail server refuses it, and Alertmanager says so in its log and its figures.
                wait_until(lambda: box.refused and not box.mails, "the wrong password is refused", 120, every_s=0.2)
                wait_until(lambda: ("UgroAlertsNotSent", "") in firing(prometheus), "an alert of it", 120, every_s=0.2)
                assert "535" in log.read_text() and "donkey" not in log.read_text()
                (told,) = asked(prometheus, "ALERTS{alertname='UgroAlertsNotSent'}")
                assert told["metric"]["integration"] == "email"
                # Corrected, without a restart: what could not be sent is.
                (config / "smtp.password").write_text(PASSWORD)
                wanted = {
                    "Critical: gpu1 does not answer", "Warning: gpu2 is degraded",
                    "Warning: UgroGpuThrottled gpu2, 2 alerts", "Warning: 2 rank(s) of first_test stand still",
                }  # fmt: skip
                wait_until(lambda: wanted <= set(box.subjects()), "all mails", 120, every_s=0.2)
                assert ("UgroNodeDegraded", "gpu1") in firing(prometheus), "it fires, but is inhibited"
                figures.text = GOOD
                over = {"Over: gpu1 does not answer", "Over: gpu2 is degraded"}
                wait_until(lambda: over <= set(box.subjects()), "their end is mailed", 120, every_s=0.2)
                titles = wait_until(lambda: over <= (seen := titles_of(chat.taken)) and seen, "the chat is told", 60)
            # Nobody takes mail any more: the log says so.
            figures.text = BAD
            wait_until(lambda: "connection refused" in log.read_text(), "nobody is there", 120, every_s=0.2)
        assert not any("gpu1 is degraded" in subject for subject in box.subjects()), "one word of gpu1 was enough"
        assert wanted <= titles
        assert {to for mails in box.to for to in mails} == {"ob@example.org"}
    assert box.mails[0]["From"] == "ugro@gpu-master"
    text = box.text("Critical: gpu1 does not answer")
    for said in (
        "gpu1 does not answer.", "See `ugro health` and its power and network.", "node       gpu1",
        "runbooks.md#ugronodeunreachable", "dashboard  http://gpu-master:8080/health",
    ):  # fmt: skip
        assert said in text, text
    print(text)  # `pytest -s` shows how it reads
    both = box.text("Warning: UgroGpuThrottled gpu2, 2 alerts")
    assert "GPU 0 of gpu2 is held down" in both and "GPU 1 of gpu2 is held down" in both
    assert "http://gpu-master:8080/experiments/first_test" in box.text("Warning: 2 rank(s) of first_test stand still")
    assert "until" in box.text("Over: gpu1 does not answer")


def titles_of(posts: list[dict[str, object]]) -> set[str]:
    """Return the titles of what a chat was told."""
    return {str(part["title"]) for post in posts for part in post["attachments"]}  # type: ignore[attr-defined]
