"""A radio bench without radios: a virtual machine with Debian's kernel, BlueZ and hostapd, in which the gateway runs.

The machine (the guest) has a Bluetooth adapter whose controller is a program of the host, on a virtual air that virtual
boards hear (docs/radio_bench.md).
"""
