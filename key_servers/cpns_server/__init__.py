"""The CPNS Server: owns Service Groups, their members and their Group Keys; delivers keys to PN GWs.

`app.CpnsServer` puts the parts together; everything else gets what it needs as arguments.

    gateway_sessions -> request_handler -> membership, group_keys, registry -> store
    store -> courier (delivery_queue decides, courier sends) -> gateway_sessions
"""
