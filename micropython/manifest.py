# The files of a board, in the manifest format of MicroPython's firmware build. Written by `make manifest` from what
# board.py imports; a test fails when it is out of date.

module("agent_slots.py", opt=2)
module("application.py", opt=2)
module("ble.py", opt=2)
module("board.py", opt=2)
module("board_record.py", opt=2)
module("console.py", opt=2)
module("describe.py", opt=2)
module("light.py", opt=2)
module("main.py", opt=2)
module("nvs_pages.py", opt=2)
module("nvs_store.py", opt=2)
module("pairing_window.py", opt=2)
module("radio_memory.py", opt=2)
module("radio_reserve.py", opt=2)
module("rom_file.py", opt=2)
module("slot_heap.py", opt=2)
module("slot_images.py", opt=2)
module("start.py", opt=2)
module("status.py", opt=2)
module("status_lines.py", opt=2)
module("strikes.py", opt=2)
module("update_slots.py", opt=2)
module("updates.py", opt=2)
module("watch.py", opt=2)
module("wifi.py", opt=2)
package(
    "cpns",
    (
        "__init__.py",
        "advert.py",
        "beacon.py",
        "broadcast_encryption/__init__.py",
        "broadcast_encryption/gkdk.py",
        "broadcast_encryption/wrapping.py",
        "broadcast_object.py",
        "cborlite.py",
        "crypto/__init__.py",
        "crypto/aes.py",
        "crypto/ccm.py",
        "crypto/compare.py",
        "crypto/hkdf.py",
        "crypto/hmac.py",
        "crypto/keywrap.py",
        "entity_user_key.py",
        "erasure_code.py",
        "errors.py",
        "field_tables.py",
        "fingerprint.py",
        "group_message.py",
        "key_ring.py",
        "messages.py",
        "names.py",
        "numbers.py",
        "proof.py",
        "report.py",
        "tuning.py",
    ),
    base_path="..",
    opt=2,
)
package(
    "suit",
    (
        "__init__.py",
        "class_id.py",
        "envelope.py",
        "erasure.py",
        "frames.py",
        "labels.py",
        "manifest.py",
        "numbers.py",
        "sealing.py",
    ),
    base_path="..",
    opt=2,
)
package(
    "device_agent",
    (
        "__init__.py",
        "adverts.py",
        "agent.py",
        "api.py",
        "broadcast_receiver.py",
        "clock.py",
        "coap/__init__.py",
        "coap/endpoint.py",
        "coap/message.py",
        "cose.py",
        "crypto/__init__.py",
        "crypto/p256.py",
        "crypto/p256_base_point.py",
        "discovery.py",
        "edhoc.py",
        "end_to_end/__init__.py",
        "end_to_end/delivery.py",
        "end_to_end/entity_user_keys.py",
        "end_to_end/server.py",
        "end_to_end/tunnel.py",
        "entropy.py",
        "gkdk_store.py",
        "group_traffic.py",
        "key_store.py",
        "links/__init__.py",
        "links/gatt.py",
        "links/udp.py",
        "membership.py",
        "oscore.py",
        "pairing.py",
        "pending.py",
        "provisioning.py",
        "reports.py",
        "requests.py",
        "session.py",
        "tuning.py",
        "unpaired.py",
        "update/__init__.py",
        "update/collecting.py",
        "update/collection.py",
        "update/head.py",
        "update/install.py",
        "update/key.py",
        "update/lost.py",
        "update/manifest.py",
        "update/piece_log.py",
        "update/pieces.py",
        "update/places.py",
        "update/reports.py",
        "update/service.py",
        "update/slot_record.py",
        "update/slots.py",
    ),
    base_path="..",
    opt=2,
)
