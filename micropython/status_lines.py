"""What a board says of its state: a code, blinks of its light, and a sentence with the next step.

The module is imported when the state changes and leaves the heap again. docs/board_start.md has the same table.
"""

# code -> (long blinks, short blinks, sentence)
LINES = {
    "running": (0, 1, "the session with the gateway stands"),
    "connecting": (0, 2, "it looks for its access point and its gateway"),
    "unprovisioned": (1, 1, "it has no gateway and no Wi-Fi name: use `keycast board provision`"),
    "half-provisioned": (1, 2, "its provisioning did not come to its end: use `keycast board provision` again"),
    "damaged": (1, 3, "its identity cannot be read: use `keycast board provision` again"),
    "no-storage": (1, 6, "its flash is full or fails: use `keycast board rescue --erase` and provision it again"),
    "unpaired": (1, 4, "it has no gateway: restart it, or hold its button for 3 s, and use `keycast board pair`"),
    "pairing": (1, 5, "its pairing window is open for 5 minutes: use `keycast board pair` with its secret"),
    "no-wifi-name": (2, 1, "it knows no access point: use `keycast board provision` with a Wi-Fi name"),
    "no-access-point": (2, 2, "no access point of its Wi-Fi name is in reach at 2.4 GHz"),
    "wrong-password": (2, 3, "the access point does not accept its Wi-Fi password"),
    "no-connection": (2, 4, "the access point does not let it in, or gives it no address"),
    "no-bluetooth": (2, 5, "Bluetooth does not work on it: use `keycast board provision` with a Wi-Fi name"),
    "no-gateway": (3, 1, "no gateway answers here"),
    "refused": (3, 2, "the gateway refuses it: look at `keycast board list` there"),
    "not-cleared": (4, 3, "this firmware keeps in its flash what is erased: see docs/flash.md"),
    "low-memory": (4, 1, "the radio has too little memory left"),
    "safe-mode": (4, 2, "three starts in a row ended within 60 s: use `keycast board rescue`"),
}
