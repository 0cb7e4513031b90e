"""What Home Assistant's documentation says of a device discovery payload (integrations/mqtt, "Device discovery
payload"; integrations/{sensor,binary_sensor,button,event,update}.mqtt), as a checker.

It knows the platforms that keycast uses, by their short names, and is stricter than Home Assistant, which passes over
what it does not know.
"""

import json
import re

TOPIC = re.compile(r"[^/+#]+/device/(?P<device>[a-zA-Z0-9_-]+)/config")
ID = re.compile(r"[a-zA-Z0-9_-]+")
TEXT, NUMBER, LIST, DICT = str, int, list, dict
ROOT = {"dev": DICT, "o": DICT, "avty": LIST, "avty_mode": TEXT, "cmps": DICT, "stat_t": TEXT, "qos": NUMBER}
ROOT_NEEDS = {"dev", "o", "cmps"}
DEVICE = dict.fromkeys(("ids", "name", "mf", "mdl", "sw", "hw", "sn", "sa", "cu", "via_device"), TEXT)
ORIGIN = dict.fromkeys(("name", "sw", "url"), TEXT)
ENTITY = dict.fromkeys(("p", "uniq_id", "name", "ent_cat", "ic", "json_attr_t", "json_attr_tpl", "stat_t"), TEXT)
VALUE = {"val_tpl": TEXT, "dev_cla": TEXT}
PLATFORMS = {
    "sensor": ENTITY | VALUE | {"stat_cla": TEXT, "unit_of_meas": TEXT, "ops": LIST},
    "binary_sensor": ENTITY | VALUE,
    "button": ENTITY | {"cmd_t": TEXT, "pl_prs": TEXT, "dev_cla": TEXT},
    "event": ENTITY | VALUE | {"evt_typ": LIST},
    "update": ENTITY | VALUE | {"l_ver_t": TEXT, "l_ver_tpl": TEXT, "tit": TEXT},
}
NEEDS = {"button": {"cmd_t"}, "event": {"evt_typ"}}
CLASSES = {
    "sensor": {"timestamp", "enum", "duration"},
    "binary_sensor": {"problem", "connectivity"},
}
READ_ONLY = {"sensor", "binary_sensor"}  # "config" is for what a person can change
DURATIONS = {"d", "h", "min", "s", "ms"}


def faults(topic, payload):
    """Yield what is wrong with a discovery message, in words."""
    match = TOPIC.fullmatch(topic)
    if match is None:
        yield f"{topic} is no topic of discovery"
        return
    document = json.loads(payload)
    yield from _table("message", document, ROOT, ROOT_NEEDS)
    yield from _table("dev", document["dev"], DEVICE, {"ids", "name"})
    yield from _table("o", document["o"], ORIGIN, {"name"})
    if document.get("avty_mode", "latest") not in ("all", "any", "latest"):
        yield "avty_mode"
    for each in document.get("avty", []):
        yield from _table("avty", each, {"t": TEXT}, {"t"})
    for key, component in document["cmps"].items():
        if not ID.fullmatch(key):
            yield f"{key} is no component ID"
        yield from _component(key, component, document)


def _component(key, component, document):
    platform = component.get("p")
    if platform not in PLATFORMS:
        yield f"{key}: platform {platform}"
        return
    if set(component) == {"p"}:  # removes it
        return
    yield from _table(key, component, PLATFORMS[platform], {"p", "uniq_id", *NEEDS.get(platform, ())})
    if not ID.fullmatch(component["uniq_id"]):
        yield f"{key}: uniq_id {component['uniq_id']}"
    if platform != "button" and "stat_t" not in component and "stat_t" not in document:
        yield f"{key} has no state topic"
    kind = component.get("dev_cla")
    if kind is not None and kind not in CLASSES.get(platform, ()):
        yield f"{key}: device class {kind}"
    if ("ops" in component) != (kind == "enum"):
        yield f"{key}: options and the device class enum go together"
    if "ops" in component and {"stat_cla", "unit_of_meas"} & set(component):
        yield f"{key}: options go with neither a state class nor a unit"
    if kind == "duration" and component.get("unit_of_meas") not in DURATIONS:
        yield f"{key}: a duration has a unit of time"
    category = component.get("ent_cat")
    if category not in (None, "diagnostic", "config") or (category == "config" and platform in READ_ONLY):
        yield f"{key}: category {category}"


def _table(name, found, known, needed):
    for key in needed - set(found):
        yield f"{name} lacks {key}"
    for key, value in found.items():
        if key not in known:
            yield f"{name} has {key}, which is not known"
        elif not isinstance(value, known[key]):
            yield f"{name}.{key} is no {known[key].__name__}"
        elif key.endswith("_t") and known[key] is TEXT and re.search(r"[+#]", value):
            yield f"{name}.{key} has a wildcard"
