"""Envelopes of updates on a board: what is read of a good one, and the sentence for each thing that can be wrong."""

from hashlib import sha256

import suit_world as w
from vector_files import part, unhex
from vmtest import ON_VM, raises, req

from cpns.cborlite import Tag, encode
from cpns.errors import MalformedMessage
from suit import class_id, envelope, manifest
from suit import labels as l
from suit import numbers as n


def reason(octets, read=envelope.parse):
    with raises(MalformedMessage) as caught:
        read(octets)
    return caught.value.reason


@req("SEC-30")
def test_a_good_one_is_read():
    octets = w.enveloped()
    update = envelope.parse(octets)
    assert (update.kind, update.number, update.size, update.digest) == ("agent", 7, w.SIZE, w.IMAGE_DIGEST)
    assert (update.vendor_id, update.class_id) == (class_id.VENDOR, class_id.class_id("agent esp32 mpy6"))
    assert (update.page_list, update.image, update.signature) == (w.PAGES, None, w.SIGNATURE)
    assert update.update_id == sha256(b"\x58" + bytes([len(w.manifest())]) + w.manifest()).digest()[:8]
    assert update.without_image() == octets and len(octets) < n.ENVELOPE_MAX
    assert update.to_be_signed == encode(["Signature1", b"\xa1\x01\x26", b"", w.signed(w.manifest())])


def test_class_ids_are_uuids_of_version_5():
    assert class_id.class_id("agent esp32 mpy6") == unhex("037abfc6d85b510088853b97ae2519a0")
    assert class_id.class_id(class_id.firmware("ESP32_GENERIC-OTA")) != class_id.class_id(class_id.agent(6))


@req("SEC-30")
def test_an_image_that_is_another_file():
    octets = b"i" * 1024
    good = w.image(DIGEST=w.digest(sha256(octets).digest()), SIZE=len(octets))
    page = b"p" * n.HASH
    described = w.manifest(shared=w.shared(good, page))
    update = envelope.parse(w.enveloped(described, frames=page, image=octets))
    assert update.image == octets and update.without_image() == w.enveloped(described, frames=page)
    assert reason(w.enveloped(described, frames=page, image=b"j" * 1024)).startswith("#image does not have the digest")
    assert reason(w.enveloped(described, frames=page, image=octets + b"i")).startswith("#image does not have the size")
    assert reason(w.enveloped(frames=w.PAGES[1:] + b"x")).startswith("#frames does not have the digest")
    assert reason(w.enveloped(frames=w.PAGES[16:])).startswith("#frames does not have the size")


@req("SEC-30")
def test_a_number_above_the_highest():
    assert manifest.read(w.manifest(number=n.NUMBER_MAX))[0] == n.NUMBER_MAX
    for number in (n.NUMBER_MAX + 1, 1 << 63, (1 << 64) - 1):
        assert reason(w.manifest(number=number), manifest.read).startswith("the manifest has a sequence number above")


@req("SEC-30")
def test_one_signature_by_es256_over_the_digest_of_this_manifest():
    assert reason(w.enveloped(blocks=[])) == "the manifest is not signed"
    assert reason(w.enveloped(blocks=[w.sign1(), w.sign1()])) == "the manifest has more than one signature"
    assert reason(w.enveloped(of=w.manifest(number=8))) == "the manifest is not the one whose digest is signed"
    assert "COSE_Sign1" in reason(w.enveloped(blocks=[encode(Tag(17, []))]))
    for block in (w.sign1(protected=b"\xa1\x01\x28"), w.sign1(payload=b"x"), w.sign1(protected=b"")):
        assert reason(w.enveloped(blocks=[block])) == "the signature is not one by ES256 over a digest apart"
    assert reason(w.enveloped(blocks=[w.sign1(signature=b"s" * 63)])) == "the signature does not have 64 octets"


@req("SEC-30")
def test_cut_off_and_longer_than_said():
    octets = w.enveloped()
    for end in range(len(octets)):
        assert reason(octets[:end]) == "the envelope cannot be read: CBOR: truncated"
    assert reason(octets + b"\0") == "the envelope cannot be read: CBOR: octets after the end"


@req("SEC-30")
def test_every_value_has_one_form():
    octets = w.enveloped()
    assert octets[:3] == b"\xd8\x6b\xa3"
    indefinite = reason(octets[:2] + b"\xbf" + octets[3:] + b"\xff")
    assert indefinite == "the envelope cannot be read: CBOR: no definite length"
    assert "longer form" in reason(octets[:2] + b"\xb8\x03" + octets[3:])
    assert "repeated" in reason(octets[:2] + b"\xa4" + octets[3:] + encode("#frames") + encode(w.PAGES))
    indefinite = w.manifest()[:-1] + b"\xff"
    assert "the manifest" in reason(w.enveloped(b"\xbf" + indefinite[1:]))
    assert reason(b"\xd8\x6b" * 500 + b"\0") == "the envelope cannot be read: CBOR: nested too deeply"
    assert reason(encode(5)) == reason(encode(Tag(107, 5))) == reason(encode({})) == "no SUIT envelope"


@req("SEC-30")
def test_commands_and_parameters_that_boards_do_not_carry_out():
    for command in (0, 4, 14, 15, 18, 22, 23, 24, 31, 32, -300, "x", b"x", None, True):
        assert "do not carry out the command" in reason(w.enveloped(w.manifest(install=w.install() + [command, 0])))
    for sequence in ("shared", "validate"):
        with_fetch = getattr(w, sequence)() + [l.FETCH, 2]
        assert "do not carry out the command 21" in reason(w.enveloped(w.manifest(**{sequence: with_fetch})))
    for label in (5, 12, 18, 19, 22, 23, -300, "x"):
        wrong = w.image()
        wrong[label] = 1
        assert "do not know the parameter" in reason(w.enveloped(w.manifest(shared=w.shared(wrong))))
    again = w.install() + [l.OVERRIDE, {l.DIGEST: w.digest(b"e" * 32)}]
    assert reason(w.enveloped(w.manifest(install=again))) == "the manifest sets the parameter 3 twice"
    assert "without its argument" in reason(w.enveloped(w.manifest(install=w.install() + [l.FETCH])))
    assert "unknown bits" in reason(w.enveloped(w.manifest(validate=w.validate() + [l.IMAGE_MATCH, 16])))


@req("SEC-30")
def test_components_that_boards_do_not_have():
    for path in ((b"..", b"main.py"), (b"agent", b"..", b"x"), (b"/etc",), (b"",), ()):
        assert "boards do not have" in reason(w.enveloped(w.manifest(paths=(path, (b"frames",)))))
    outside = w.manifest(paths=((b"..", b"main.py"), (b"frames",)))
    assert "boards do not have: ../main.py, frames" in reason(w.enveloped(outside))
    assert "list of byte strings" in reason(w.enveloped(w.manifest(paths=(("agent",), (b"frames",)))))
    for paths in ((), b"agent", 5, ((b"agent",),) * 3):
        assert reason(w.enveloped(w.manifest(paths=paths))) == "the manifest has no component, or more than 2"
    one = [l.OVERRIDE, w.image(), 1, 15, 2, 15]
    one = w.manifest(paths=((b"agent",),), shared=one, validate=[3, 15], install=[20, {21: "#image"}, 21, 2, 3, 15])
    assert reason(w.enveloped(one)) == "the manifest does not have an image and its frames"
    for index, sentence in ((2, "that the manifest does not have"), (True, "not a natural"), ([0, 1], "not a natural")):
        assert sentence in reason(w.enveloped(w.manifest(validate=[l.SET_COMPONENT, index])))
    assert "does not begin with the component" in reason(w.enveloped(w.manifest(validate=w.validate()[2:])))


@req("SEC-30")
def test_what_must_be_said_of_a_component():
    for label in (l.DIGEST, l.SIZE):
        parameters = w.image()
        del parameters[label]
        assert "of a component" in reason(w.enveloped(w.manifest(shared=w.shared(parameters))))
    for label in (l.VENDOR_ID, l.CLASS_ID):
        parameters = w.image()
        del parameters[label]
        assert "for which boards" in reason(w.enveloped(w.manifest(shared=w.shared(parameters))))
    assert "for which boards" in reason(w.enveloped(w.manifest(shared=w.shared()[:4] + w.shared()[6:])))
    assert "from elsewhere" in reason(w.enveloped(w.manifest(install=w.install(("http://x/y", "#frames")))))
    assert "not fetched" in reason(w.enveloped(w.manifest(validate=w.validate()[:6])))
    assert "a component is empty" in reason(w.enveloped(w.manifest(shared=w.shared(w.image(SIZE=0)))))
    assert "not that of an image of this size" in reason(w.enveloped(w.manifest(shared=w.shared(w.image(SIZE=1024)))))
    pages = b"p" * (36 * n.HASH)
    assert (
        envelope.parse(w.enveloped(w.manifest(shared=w.shared(w.image(SIZE=n.IMAGE_MAX), pages)), frames=pages)).size
        == n.IMAGE_MAX
    )
    for size in (n.IMAGE_MAX + 1, -1, True, b"x"):
        assert reason(w.enveloped(w.manifest(shared=w.shared(w.image(SIZE=size)))))
    for wrong in (b"short", w.digest(b"d" * 31), encode([-44, b"d" * 32]), encode([-16, b"d" * 32, 1]), 5):
        assert reason(w.enveloped(w.manifest(shared=w.shared(w.image(DIGEST=wrong)))))
    assert "wrong value" in reason(w.enveloped(w.manifest(shared=w.shared(w.image(CLASS_ID=b"c" * 15)))))


@req("SEC-30")
def test_elements_that_boards_do_not_read():
    for key, sentence in ((2, "lacks its element 2"), (3, "lacks its element 3")):
        elements = {2: b"", 3: b"", "#frames": b""}
        elements.pop(key)
        assert sentence in reason(encode(Tag(107, elements)))
        elements[key] = "text"
        assert reason(encode(Tag(107, elements))) == "an element of the envelope is no byte string"
    lacking = w.enveloped()[: -len(encode("#frames") + encode(w.PAGES))]
    assert reason(lacking[:2] + b"\xa2" + lacking[3:]) == "the envelope lacks its element #frames"
    assert "the element '#other'" in reason(w.enveloped(other=b"x"))
    assert "\x1b" not in reason(w.enveloped(**{"\x1b[2J": b"x"}))
    good = {1: 1, 2: 7, 3: b"", 7: b"", 20: b""}
    for label in (4, 5, 8, 9, 16, 23, "x"):
        assert "the element %r" % label in reason(encode(dict(list(good.items()) + [(label, 0)])), manifest.read)
    for label in good:
        lacking = {key: value for key, value in good.items() if key != label}
        assert reason(encode(lacking), manifest.read) == "the manifest lacks the element %d" % label
    assert reason(encode([1, 2]), manifest.read) == "the manifest is no map"
    assert reason(w.enveloped(w.manifest(install=[l.SET_COMPONENT, 0, l.OVERRIDE, 5]))) == "parameters are no map"
    assert "version other than 1" in reason(encode(dict(list(good.items()) + [(1, 2)])), manifest.read)
    assert "not a natural number" in reason(encode(dict(list(good.items()) + [(1, True)])), manifest.read)


@req("SEC-30")
def test_what_travels_has_one_kilobyte_at_most():
    page = b"p" * n.HASH
    of_image = w.image(DIGEST=w.digest(sha256(b"i").digest()), SIZE=1)
    parts = {"frames": page, "image": b"i"}
    for more in range(200, 400):
        validate = w.validate() + [l.IMAGE_MATCH, 1] * more
        described = w.manifest(validate=validate, shared=w.shared(of_image, page))
        octets = w.enveloped(described, frames=page)
        if len(octets) > n.ENVELOPE_MAX:
            break
        longest, whole = octets, w.enveloped(described, **parts)
    assert len(longest) > n.ENVELOPE_MAX - 2 and envelope.parse(whole).without_image() == longest
    for too_long in (octets, w.enveloped(described, **parts)):
        assert reason(too_long) == "the envelope without its image is longer than 1024 octets"


@req("SEC-30")
def test_ten_thousand_components_are_not_even_decoded():
    paths = bytearray(b"\xa2\x02\x99\x27\x10")
    if not ON_VM:  # a board has no room for them, nor for the frame that they would come in
        paths += b"\x81\x41a" * 10000 + b"\x04\x40"
    octets = w.enveloped(encode({1: 1, 2: 7, 3: paths + b"\0" * n.ENVELOPE_MAX, 7: b"", 20: b""}))
    assert reason(octets) == "the manifest cannot be read: CBOR: longer than 1024 octets"


def test_examples_of_the_document():
    unread = "the manifest has the element "
    for name, sentence in (
        ("0", unread),
        ("1", "the manifest does not have an image and its frames"),
        ("2", "the envelope has the element "),
        ("3", unread),
        ("3, ESP256", "the signature is not one by ES256 over a digest apart"),
        ("4", unread),
        ("5", unread),
    ):
        assert reason(unhex(part("suit_examples", "examples", name))).startswith(sentence)


def test_examples_of_the_document_as_manifests():
    example = envelope.parts(unhex(part("suit_examples", "examples", "1")))[l.MANIFEST]
    number, components = manifest.read(example)
    assert number == 1 and [component.path for component in components] == [[b"\0"]]
    assert components[0].parameters[l.URI] == "http://example.com/file.bin"
    assert components[0].parameters[l.SIZE] == 34768
    assert components[0].commands == [(4, 1), (4, 2), (7, 3), (20, 21), (20, 3)]
    example = envelope.parts(unhex(part("suit_examples", "examples", "3, ESP256")))[l.MANIFEST]
    assert reason(example, manifest.read) == "boards do not carry out the command 15"
