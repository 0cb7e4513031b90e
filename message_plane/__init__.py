"""The one-to-one side of the Linux ends: CoAP, EDHOC and OSCORE between PN GW, PNEs and CPNS Server.

`endpoint.Endpoint` is the door; `identity` and `credentials` say who is who, `session_store` keeps what must
survive a restart. Octets and order of messages: docs/protocol.md sections 2 and 3.
"""
