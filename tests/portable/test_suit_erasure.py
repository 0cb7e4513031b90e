"""The code of broadcast updates: any few frames more than are missing give all blocks back."""

from hashlib import sha256

from suit import numbers as n
from suit.erasure import Code, xor


def block(number):
    return sha256(number.to_bytes(4, "big")).digest() * (n.BLOCK // 32)  # all of them at once have no room in the VM


def frame(code, index):
    return xor(block, code.members(index))


def lost(seed, index, percent):
    return sha256(seed.to_bytes(4, "big") + index.to_bytes(4, "big")).digest()[0] * 100 < percent * 256


def solved(code, held):
    return code.solve(0, lambda index: index in held)


def test_numbers_of_frames():
    for size, expected in (
        (1, (1, 1, 1, 2)),
        (1024, (1, 1, 1, 2)),
        (102400, (100, 1, 50, 150)),
        (0x180000, (1536, 12, 64, 2304)),
    ):
        code = Code(size)
        assert (code.blocks, code.segments, code.repairs, code.frames) == expected
        assert sorted([code.segment(index) for index in range(code.blocks)])[0] == 0


def test_blocks_come_back_from_any_frames():
    code = Code(20 * n.BLOCK + 5)
    back = 0
    for seed in range(8):
        held = [index for index in range(code.frames) if not lost(seed, index, 25)]
        found = solved(code, held)
        if found is None:
            continue
        back += 1
        for missing, sources in found:
            assert missing not in held and not [index for index in sources if index not in held]
            assert xor(lambda index: frame(code, index), sources) == block(missing)
    assert back > 4


def test_segments_are_solved_apart():
    code = Code(300 * n.BLOCK)
    assert code.segments == 3
    held = [index for index in range(code.frames) if index not in (0, 1, 3, 7)]
    assert [number for number, _ in code.solve(0, lambda index: index in held)] == [0, 3]
    assert [number for number, _ in code.solve(1, lambda index: index in held)] == [1, 7]
    assert code.solve(2, lambda index: index in held) == []


def test_too_few_frames():
    code = Code(10 * n.BLOCK)
    assert code.solve(0, lambda index: index < 9) is None
    assert code.solve(0, lambda index: index < 10) == []
