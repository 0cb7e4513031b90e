"""The base of every section of the configuration, and the types of its settings."""

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cpns import name_rule, tuning

_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_-]{1,63})*\.?", re.IGNORECASE)
_NUMBER = re.compile(r"(?:.*\.)?\d+\.?")  # what ends in a number is meant as an IPv4 address


def _shown(name: str) -> str:
    if wrong := name_rule.unseen(name):
        raise ValueError(f"a name; this one {wrong}")
    return name


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError("an IP address of this machine, or 0.0.0.0 for all") from None


def _host(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        if not _HOST.fullmatch(text) or _NUMBER.fullmatch(text):
            raise ValueError("a host name or an IP address, without scheme and port") from None
        return text.rstrip(".").lower()


EntityId = Annotated[str, Field(min_length=1, max_length=tuning.CREDENTIAL_ID_MAX), AfterValidator(_shown)]
PnId = Annotated[str, Field(min_length=1, max_length=tuning.ENTITY_ID_MAX), AfterValidator(_shown)]
Port = Annotated[int, Field(ge=1, le=65535)]
Host = Annotated[str, AfterValidator(_host)]
Addresses = Annotated[list[Annotated[str, AfterValidator(_address)]], Field(min_length=1)]
"""IP addresses of this machine to listen on."""


class Section(BaseModel):
    """One table of the configuration file. It refuses unknown keys, and values of another type without converting."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
