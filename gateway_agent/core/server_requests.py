"""Requests to the CPNS Server, with a check of each answer."""

from cpns import messages, numbers, tuning
from cpns.errors import CpnsError, MalformedMessage
from gateway_agent.core.fields import Fields
from gateway_agent.core.ports import Uplink


class ServerRefused(CpnsError):
    """The Server's answer has Result `2`; `code` is its Error element."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason)
        self.code = code


async def ask(uplink: Uplink, code: int, fields: Fields) -> Fields:
    """Send a request to the Server and return the fields of a successful response.

    Raises NoAnswer, NotUnderstood, ServerRefused, MalformedMessage.
    """
    answer = await uplink.request(messages.encode(code, fields))
    answer_code, answer_fields = messages.decode(answer, tuning.UPLINK_MESSAGE_MAX)
    if answer_code != code + 1:
        raise MalformedMessage(f"message {answer_code} answers message {code}")
    if answer_fields[messages.RESULT] != numbers.RESULT_SUCCESS:
        reason = answer_fields.get(messages.ERROR_TEXT, "the Server refused")
        raise ServerRefused(str(reason), int(answer_fields.get(messages.ERROR, numbers.ERROR_OTHER)))
    return dict(answer_fields)
