"""The options of an end that connects to MQTT brokers: of a PN GW (`gateway init`, `setup`) and of a CPNS Server."""

from pathlib import Path
from typing import Annotated

import typer

from keycast.terminal.options import folder

BrokerOption = Annotated[
    list[str] | None,
    typer.Option(
        "--broker",
        metavar="URL",
        help="MQTT broker between gateway and CPNS Server, as mqtts://broker.example:8883; may be repeated.",
    ),
]
BrokerFilesOption = Annotated[
    Path | None,
    typer.Option(
        "--broker-files",
        parser=folder,
        metavar="FOLDER",
        help="Folder with ca.crt, client.crt and client.key, with which this end proves itself to the brokers.",
    ),
]
BrokerPasswordOption = Annotated[
    Path | None,
    typer.Option(
        "--broker-password-file",
        metavar="FILE",
        readable=False,
        help="File with the password of this end at brokers without certificates; its user name there is its tag.",
    ),
]
