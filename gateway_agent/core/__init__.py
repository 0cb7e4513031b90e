"""The core of the PN GW: members, Group Keys and their delivery to the PNEs. It opens no sockets."""
