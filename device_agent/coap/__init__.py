"""CoAP (RFC 7252) for boards: the codec and a state machine without a socket."""
