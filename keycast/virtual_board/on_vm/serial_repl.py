# MicroPython's REPL on the serial line, as the firmware of a board has it: for people with prompt and echo, for tools
# raw (Ctrl-A) with "raw paste". The VM of this machine has it on a terminal only, and not raw.
#
# The firmware compiles a program of the raw mode while it reads it, so its text is never in the heap. Here it is kept
# beside the heap until it is whole: in a heap in pieces there may be no room for thousands of octets in a row, and then
# this module would end, which looks like a board that resets under its tool.
#
# While a program runs, the process outside turns Ctrl-C into an interrupt; BOARD_STATE is the number of a file that
# tells it when: "r" runs, "i" idle.
import io
import os
import sys

import ffi
import machine
import uctypes

_PROMPT, _MORE, _PASTED = b">>> ", b"... ", b"=== "
_RAW_BANNER = b"raw REPL; CTRL-B to exit\r\n"
_WINDOW = 128  # octets that a tool may send before it waits, in raw paste; two of these at first
_PROGRAM_MAX = 1 << 20  # octets; what is longer loses its end, and finds no room when it is compiled
_BACKSPACES = (8, 127)
_COMPOUND = ("@", "if ", "while ", "for ", "try:", "with ", "def ", "class ", "async ")

_in, _out = sys.stdin.buffer, sys.stdout.buffer
_octet = bytearray(1)
_state = open(int(os.getenv("BOARD_STATE")), "wb")  # noqa: SIM115 - as long as the process
_scope = {"__name__": "__main__"}
_mmap = ffi.open(None).func("P", "mmap", "PIiiil")
_program = uctypes.bytearray_at(_mmap(0, _PROGRAM_MAX, 3, 0x22, -1, 0), _PROGRAM_MAX)  # MAP_PRIVATE | MAP_ANONYMOUS


def run():
    # Never returns
    raw = bool(os.getenv("BOARD_RAW"))  # the mode at the soft reset before this start
    for name in ("boot.py",) if raw else ("boot.py", "main.py"):
        text = _file(name)
        error = text and _execute(text, name, "exec")
        text = None
        if error:
            _print(error)
    _state.write(b"i")
    while True:
        try:
            if raw:
                _raw()
            else:
                _friendly()
            raw = not raw
        except KeyboardInterrupt:  # it came when the program had just ended
            pass


def _read():
    # Return the next octet, 3 for an interrupt that was late
    try:
        if not _in.readinto(_octet):
            machine.end(0)  # the process outside has ended
    except KeyboardInterrupt:
        return 3
    return _octet[0]


def _soft_reset(raw):
    _out.write(b"MPY: soft reboot\r\n")
    machine.end(machine.SOFT_RESET_RAW_CODE if raw else machine.SOFT_RESET_CODE)


def _execute(text, name, kind, raw=False):
    # Return what ended the program, or None. Octets of the raw mode are no str, which compile() needs
    try:
        _state.write(b"r")
        exec(text if raw else compile(text, name, kind), _scope)
    except SystemExit:
        _soft_reset(raw)
    except BaseException as error:  # noqa: BLE001 - is printed
        return error
    finally:
        _state.write(b"i")


def _print(error):
    # as print_exception does, without the place in this module, and with the firmware's name for what a tool has sent
    text = io.StringIO()
    sys.print_exception(error, text)
    for line in text.getvalue().split("\n")[:-1]:
        if not line.startswith('  File "serial_repl"'):
            print(line.replace('"<string>"', '"<stdin>"'))


def _file(name):
    # Return the text of a file, or None if there is none
    try:
        with open("/" + name) as file:
            return file.read()
    except OSError:
        return None


def _raw():
    # Return when a person shall have the prompt
    _out.write(_RAW_BANNER)
    while True:
        _out.write(b">")
        text = _raw_text()
        if text is None:
            _out.write(b"\r\n")
            return
        if not text:
            _out.write(b"OK\r\n")
            _soft_reset(True)
        error = _execute(text, "", "", True)
        _out.write(b"\x04")
        if error:
            _print(error)
        _out.write(b"\x04")


def _raw_text():
    # Return the octets of a program, none for a soft reset, None for the other mode
    size = 0
    while True:
        octet = _read()
        if octet == 1:
            if size == 2 and _program[:2] == b"\x05A":
                return _pasted()
            _out.write(_RAW_BANNER + b">")
            size = 0
        elif octet == 2:
            return None
        elif octet == 3:
            size = 0
        elif octet == 4:
            if size:
                _out.write(b"OK")
            return memoryview(_program)[:size]
        elif size < _PROGRAM_MAX:
            _program[size] = octet
            size += 1


def _pasted():
    # Raw paste: one octet 1 for each window of octets that was read, 4 for the end
    _out.write(b"R\x01" + bytes((_WINDOW & 255, _WINDOW >> 8)) + b"\x01")
    size, left = 0, _WINDOW
    while True:
        octet = _read()
        if octet in (3, 4):
            _out.write(b"\x04")
            return memoryview(_program)[:size] if octet == 4 else b"raise KeyboardInterrupt"
        if size < _PROGRAM_MAX:
            _program[size] = octet
            size += 1
        left -= 1
        if not left:
            _out.write(b"\x01")
            left = _WINDOW


def _decoded(text):
    try:
        return str(text, "utf-8")
    except UnicodeError:
        return "raise UnicodeError"


def _banner():
    version = ".".join([str(part) for part in sys.implementation[1][:3]])
    _out.write(b"MicroPython v%s; keycast virtual board with ESP32\r\n" % version.encode())
    _out.write(b'Type "help()" for more information.\r\n')


def _friendly():
    # Return when a tool wants the raw mode
    _banner()
    while True:
        text = _statement()
        if text is None:
            _out.write(b"\r\n")
            return
        error = _execute(text, "<stdin>", "single")
        if error:
            _print(error)


def _statement():
    # Return the lines of one statement, None for the other mode
    text, prompt = "", _PROMPT
    while True:
        line = _line(prompt)
        if line is None:
            return None
        if line is _PASTED:
            return _paste()
        if line is _PROMPT:
            text, prompt = "", _PROMPT
            continue
        text += line + "\n"
        if not _goes_on(text, line):
            return text
        prompt = _MORE


def _line(prompt):
    # Return a line; _PROMPT after Ctrl-C, _PASTED for Ctrl-E, None for Ctrl-A
    _out.write(prompt)
    line = bytearray()
    while True:
        octet = _read()
        if octet == 13:
            _out.write(b"\r\n")
            return _decoded(line)
        if octet == 3:
            _out.write(b"\r\n")
            return _PROMPT
        if octet == 1 and not line:
            return None
        if octet == 2 and not line:
            _out.write(b"\r\n")
            _banner()
            return _PROMPT
        if octet == 4 and not line and prompt is _PROMPT:
            _out.write(b"\r\n")
            _soft_reset(False)
        if octet == 5 and not line and prompt is _PROMPT:
            return _PASTED
        if octet in _BACKSPACES:
            if line:
                line = line[:-1]
                _out.write(b"\b \b")
        elif octet >= 32 or octet == 9:
            line.append(octet)
            _out.write(_octet)


def _paste():
    # Return the text that is sent up to Ctrl-D, "" if it is cancelled
    _out.write(b"\r\npaste mode; Ctrl-C to cancel, Ctrl-D to finish\r\n" + _PASTED)
    text = bytearray()
    while True:
        octet = _read()
        if octet == 3:
            _out.write(b"\r\n")
            return ""
        if octet == 4:
            _out.write(b"\r\n")
            return _decoded(text)
        octet = 10 if octet == 13 else octet
        text.append(octet)
        _out.write(b"\r\n" + _PASTED if octet == 10 else _octet)


def _goes_on(text, line):
    # Return whether the statement needs further lines, by the rules of MicroPython's own REPL, simplified
    if text.startswith(_COMPOUND):
        return line != ""
    depth, quote = 0, ""
    i = 0
    while i < len(text):
        three = text[i : i + 3]
        if quote:
            if text[i] == "\\":
                i += 1
            elif text[i : i + len(quote)] == quote:
                i += len(quote) - 1
                quote = ""
            elif text[i] == "\n" and len(quote) == 1:
                quote = ""
        elif three in ("'''", '"""'):
            quote = three
            i += 2
        elif text[i] in "'\"":
            quote = text[i]
        elif text[i] == "#":
            i = text.find("\n", i)
        elif text[i] in "([{":
            depth += 1
        elif text[i] in ")]}":
            depth -= 1
        i += 1
    return depth > 0 or len(quote) == 3 or line.endswith("\\")
