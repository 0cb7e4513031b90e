"""The message plane on Linux: one-to-one messages by CoAP, EDHOC and OSCORE between PN GW, PNEs and CPNS Server.

Other packages use `endpoint.Endpoint`. `identity` and `credentials` identify the entities, and `session_store` stores
what must survive a restart. docs/protocol.md sections 2 and 3 define octets and order of the messages.
"""
