# What the process of a board's NVS does: one call at a time, which the board (`esp32`) has put into a box:
#
#   0  what: "n" number of a namespace, "g" get, "s" set, "e" erase; in the answer 0, or an error's number below -0x1100
#   1  number of the namespace
#   2  length of the key, 16 for a longer one
#   4  length of the value or of the error's name, u16, little-endian
#   8  key
#   32 value, or the error's name
#
# `BOARD_POWER_CUT` = "n:before|torn|after" ends the board at the n-th call that writes, as a power cut would: before
# anything reached the flash, with the value half written, or after it.
import os
import sys

import nvs_flash

_TORN_AFTER = 2  # programs of a value that are whole: its head, and that this is written


def serve(flash, box, asked, answer, exit):
    try:
        call = _calls(flash, box, exit)
        while asked():
            call()
            answer()
    except Exception as error:  # noqa: BLE001 - it ends the board, as a power cut
        sys.print_exception(error, sys.stderr)
    finally:
        exit(0)


def _calls(octets, box, exit):
    class Flash(nvs_flash.Flash):
        whole = -1  # programs before the power goes

        def program(self, at, octets):
            if not self.whole:
                nvs_flash.Flash.program(self, at, octets[: len(octets) // 2])
                exit(0)
            self.whole -= 1
            nvs_flash.Flash.program(self, at, octets)

    flash = Flash(octets)
    nvs = nvs_flash.Nvs(flash)
    at, _, how = (os.getenv("BOARD_POWER_CUT") or "0:").partition(":")
    left = int(at)

    def write(change, *arguments):
        nonlocal left
        left -= 1
        if not left and how == "torn":
            flash.whole = _TORN_AFTER
        if left or how != "before":
            change(*arguments)
        if not left:
            exit(0)

    def call():
        what, namespace = chr(box[0]), box[1]
        value = memoryview(box)[32 : 32 + (box[4] | box[5] << 8)]
        box[0] = box[4] = box[5] = 0
        try:
            if box[2] > 15:
                raise OSError(nvs_flash.KEY_TOO_LONG, "ESP_ERR_NVS_KEY_TOO_LONG")
            key = bytes(box[8 : 8 + box[2]]).decode()
            size = 0 if what == "n" else nvs.size(namespace, key)
            if what == "n":
                box[1] = nvs.namespace(key)
            elif what == "s":
                if len(value) > nvs_flash.LONGEST:
                    raise OSError(nvs_flash.TOO_LONG, "ESP_ERR_NVS_VALUE_TOO_LONG")
                write(nvs.write, namespace, key, value)
            elif size is None:
                raise OSError(nvs_flash.NOT_FOUND, "ESP_ERR_NVS_NOT_FOUND")
            elif what == "e":
                write(nvs.erase, namespace, key)
            else:
                nvs.read(namespace, key, memoryview(box)[32:])
                box[4], box[5] = size & 0xFF, size >> 8
        except OSError as error:
            number, name = error.args
            box[0], box[4] = -0x1100 - number, len(name)
            box[32 : 32 + len(name)] = name.encode()

    return call
