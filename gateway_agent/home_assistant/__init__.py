"""Home Assistant over MQTT: a gateway, its Service Groups and its boards as devices, and the commands allowed.

`documents.py` makes every message, `publisher.py` decides which to send, `home_broker.py` is the connection.
"""
