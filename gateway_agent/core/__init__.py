"""The heart of the PN GW: who is a member, which key is current, and how it reaches the boards. No sockets here."""
