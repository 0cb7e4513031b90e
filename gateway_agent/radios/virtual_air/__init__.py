"""A Bluetooth LE air without radios: adverts and connections between the controllers of one process.

The controllers are Bumble's. The gateway's own one is that of the sender `virtual` (`radios.ble_virtual`). Each virtual
board has one in the process that hosts the air, and reaches it by a local socket. The air is in `gateway_agent` because
a gateway with that sender hosts one, and `gateway_agent` imports nothing of `keycast`, which has the virtual boards.
"""
