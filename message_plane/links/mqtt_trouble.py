"""What is wrong between this end and a broker, in words, with the next step."""

from __future__ import annotations

import socket
import ssl

import aiomqtt
from paho.mqtt.reasoncodes import ReasonCode

from message_plane.errors import PlaneError
from message_plane.links.mqtt_section import Broker

_NOT_MQTT_5 = (1, 132)  # of 3.1.1, of 5
REFUSED = 128  # reason codes from here on are errors

_NOT_LET_IN = (134, 135)
_AT_CONNECTING = {
    133: ("does not accept the name of this client", "Let the broker accept client IDs of 32 characters and more."),
    134: ("refuses this user or its password", "Correct user and password_file, or create the user at the broker."),
    135: (
        "does not let this end in: not authorised",
        "Mosquitto 2 wants `allow_anonymous true`, or a certificate or user: see `keycast server broker-files`.",
    ),
    136: ("says that it is not available", "Look into the broker's log."),
    137: ("says that it is busy", "It is tried again."),
    138: ("has banned this end", "Look into the broker's log."),
    151: ("says that a quota is used up", "Look into the broker's log."),
}
_AFTERWARDS = {
    139: ("is shutting down", "It is tried again."),
    141: ("has heard nothing of this end for too long", "It is tried again."),
    142: (
        "has given this end's connection to another process with the same identity",
        "Run each identity once: stop the other process.",
    ),
    135: ("ends the connection: not authorised", "Look into the broker's log."),
}
_CERTIFICATE = "Name that of this end: certificate and key, or --broker-files."
_ALERTS = (
    ("CERTIFICATE_REQUIRED", "wants a client certificate", _CERTIFICATE),
    ("HANDSHAKE_FAILURE", "wants a client certificate", _CERTIFICATE),
    ("CERTIFICATE_EXPIRED", "says that the client certificate has expired", "Issue another one."),
    ("CERTIFICATE_REVOKED", "says that the client certificate is revoked", "Issue another one."),
    ("UNKNOWN_CA", "does not know who issued the client certificate", "Use a certificate that its own CA has issued."),
    ("CERTIFICATE", "does not accept the client certificate", "Use a certificate that its own CA has issued."),
    ("DECRYPT_ERROR", "does not accept the client certificate", "Use a certificate that its own CA has issued."),
    ("WRONG_VERSION_NUMBER", "has no TLS at this port", "Write mqtt://, or the port of its listener with TLS."),
)


class BrokerTrouble(PlaneError):
    """A broker cannot be used now. The text names the broker, the reason and the next step.

    `of_version` is True if it may have no MQTT 5, `of_user` if it does not let this user in.
    """

    def __init__(
        self, broker: Broker, what: str, next_step: str, *, of_version: bool = False, of_user: bool = False
    ) -> None:
        super().__init__(f"the broker {broker} {what}.", next_step)
        self.broker = broker
        self.of_version = of_version
        self.of_user = of_user


def not_connected(broker: Broker, problem: BaseException, heard: str = "") -> BrokerTrouble:
    """Return why a connection could not be made. `heard`: what the library said about the socket, "" for nothing."""
    if isinstance(problem, aiomqtt.MqttCodeError):
        return _refused(broker, problem.rc)
    if isinstance(problem, ssl.SSLCertVerificationError):
        return BrokerTrouble(
            broker,
            f"cannot prove its name: {problem.verify_message.rstrip('.')}",
            "Name the file of the CA that issued its certificate (ca, or --broker-files), and the broker as its "
            "certificate does.",
        )
    if isinstance(problem, (ssl.SSLEOFError, ssl.SSLZeroReturnError)) or (broker.tls and _is_reset(problem)):
        return BrokerTrouble(
            broker,
            "ends the connection at the beginning of TLS",
            "Write mqtt:// if its port has no TLS, and look into its log.",
        )
    if isinstance(problem, ssl.SSLError) or "SSL" in heard or "TLS" in heard:
        return _by_alert(broker, f"{problem} {heard}")
    if isinstance(problem, socket.gaierror):
        return BrokerTrouble(broker, f"has no address: {problem.strerror}", "Correct its name, or the name server.")
    if isinstance(problem, ConnectionRefusedError):
        return BrokerTrouble(
            broker,
            "is not there: nothing listens at this port",
            f"Start it. Mosquitto 2 without a line such as `listener {broker.port}` listens for its own machine only.",
        )
    if isinstance(problem, TimeoutError):
        return BrokerTrouble(broker, "does not answer", "Correct its address, or look for a firewall on the way.")
    if isinstance(problem, OSError):
        return BrokerTrouble(broker, f"cannot be reached: {problem.strerror or problem}", "Look at the network.")
    return BrokerTrouble(
        broker,
        "ends the connection before it answers",
        "Write mqtts:// if its port wants TLS, and look into its log.",
        of_version=True,
    )


def lost(broker: Broker, problem: BaseException | None) -> BrokerTrouble:
    """Return why a connection has ended."""
    code = _code(getattr(problem, "rc", None))
    if code in _AFTERWARDS:
        return BrokerTrouble(broker, *_AFTERWARDS[code])
    return BrokerTrouble(
        broker,
        "has ended the connection",
        "It is tried again. If it ends each time, another process uses the same certificate or user: end that one.",
    )


def server_absent(broker: Broker) -> BrokerTrouble:
    """Return that the CPNS Server is not connected to a broker, so that its PN GWs go to another one."""
    return BrokerTrouble(broker, "does not have the CPNS Server", "Another one is tried. Name this one to the Server.")


def topic_refused(broker: Broker, topic: str, right: str, user: str) -> BrokerTrouble:
    """Return that the broker's access list has no line for what `user` must be able to do at `topic`.

    `right`: "read" or "write".
    """
    whom = user or "the user of this end"
    return BrokerTrouble(
        broker,
        f"does not let {whom} {right} {topic}",
        f"Add to its access list, below `user {user}`: topic {right} {topic}" if user else "Add that to its ACL.",
    )


def unanswered(broker: Broker, up: str, down: str, user: str) -> BrokerTrouble:
    """Return that a broker carries nothing between the CPNS Server, which is connected, and `user`.

    `up`, `down`: the topics of the two directions. The broker may have refused either without a word.
    """
    return BrokerTrouble(
        broker,
        "has the CPNS Server, and carries no answer of it",
        f"Add to its access list, below `user {user}`: topic write {up} and: topic read {down}",
    )


def is_refusal(reason: ReasonCode) -> bool:
    """Return True if a reason code of a broker is an error."""
    return bool(reason.value >= REFUSED)


def _refused(broker: Broker, reason: object) -> BrokerTrouble:
    code = _code(reason)
    if code in _NOT_MQTT_5:
        return BrokerTrouble(broker, "has no MQTT 5", "It is tried again with 3.1.1.", of_version=True)
    if code in _AT_CONNECTING:
        return BrokerTrouble(broker, *_AT_CONNECTING[code], of_user=code in _NOT_LET_IN)
    return BrokerTrouble(broker, f"refuses the connection: {reason}", "Look into the broker's log.")


def _is_reset(problem: BaseException) -> bool:
    return isinstance(problem, (ConnectionResetError, BrokenPipeError))


def _by_alert(broker: Broker, said: str) -> BrokerTrouble:
    for part, what, next_step in _ALERTS:
        if part in said.upper().replace(" ", "_"):
            return BrokerTrouble(broker, what, next_step)
    return BrokerTrouble(broker, f"and this end cannot agree on TLS: {said.strip()}", "Look into the broker's log.")


def _code(reason: object) -> int:
    value = getattr(reason, "value", reason)
    return value if isinstance(value, int) else -1
