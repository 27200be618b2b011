# SPDX-License-Identifier: Apache-2.0
"""The API's bodies before a microVM is started: every field with every wrong type, limits, ids, what is read back."""

import json

import pytest

pytestmark = pytest.mark.native

NOT_JSON = "An error occurred when deserializing the json body of a request: "
BEFORE = "The requested operation is not supported before starting the microVM."

BUCKET = {"size": ("u64", True), "refill_time": ("u64", True), "one_time_burst": ("u64?", False)}
LIMITER = {"bandwidth": (BUCKET, False), "ops": (BUCKET, False)}

# Every body of the API: path, method, a good body, and the fields with (kind, required). A kind is bool, u8, u16, u32, u64,
# string, a tuple of words, or a table of fields; with "?" it may be null.
BODIES = {
    "machine": ("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 128}, {
        "vcpu_count": ("u8", True), "mem_size_mib": ("u64", True), "smt": ("bool", False),
        "cpu_template": (("C3", "T2", "T2S", "T2CL", "T2A", "V1N1", "None"), False),
        "track_dirty_pages": ("bool", False), "huge_pages": (("None", "Transparent", "2M"), False)}),
    "boot": ("PUT", "/boot-source", {"kernel_image_path": "/dev/null"}, {
        "kernel_image_path": ("string", True), "initrd_path": ("string?", False), "boot_args": ("string?", False)}),
    "drive": ("PUT", "/drives/a", {"drive_id": "a", "is_root_device": False, "path_on_host": "/dev/null"}, {
        "drive_id": ("string", True), "partuuid": ("string?", False), "is_root_device": ("bool", True),
        "cache_type": (("Unsafe", "Writeback"), False), "is_read_only": ("bool?", False),
        "path_on_host": ("string?", False), "rate_limiter": (LIMITER, False), "io_engine": (("Sync", "Async"), False),
        "socket": ("string?", False)}),
    "net": ("PUT", "/network-interfaces/a", {"iface_id": "a", "host_dev_name": "none"}, {
        "iface_id": ("string", True), "host_dev_name": ("string", True), "guest_mac": ("string?", False),
        "mtu": ("u16?", False), "rx_rate_limiter": (LIMITER, False), "tx_rate_limiter": (LIMITER, False)}),
    "vsock": ("PUT", "/vsock", {"guest_cid": 3, "uds_path": "v.sock"}, {
        "guest_cid": ("u32", True), "uds_path": ("string", True), "vsock_id": ("string?", False)}),
    "entropy": ("PUT", "/entropy", {}, {"rate_limiter": (LIMITER, False)}),
    "serial": ("PUT", "/serial", {}, {"serial_out_path": ("string?", False), "rate_limiter": (BUCKET, False)}),
    "logger": ("PUT", "/logger", {}, {
        "log_path": ("string?", False), "level": (("Error", "warning", "WARN", "Info", "Debug", "Trace", "Off"), False),
        "show_level": ("bool?", False), "show_log_origin": ("bool?", False), "module": ("string?", False)}),
    "metrics": ("PUT", "/metrics", {"metrics_path": "/dev/null"}, {
        "metrics_path": ("string", True), "emit_id": ("bool", False)}),
    "action": ("PUT", "/actions", {"action_type": "FlushMetrics"}, {
        "action_type": (("InstanceStart", "FlushMetrics", "SendCtrlAltDel"), True)}),
    "vm": ("PATCH", "/vm", {"state": "Paused"}, {"state": (("Paused", "Resumed"), True)}),
    "drive patch": ("PATCH", "/drives/a", {"drive_id": "a"}, {
        "drive_id": ("string", True), "path_on_host": ("string?", False), "rate_limiter": (LIMITER, False)}),
    "net patch": ("PATCH", "/network-interfaces/a", {"iface_id": "a"}, {
        "iface_id": ("string", True), "rx_rate_limiter": (LIMITER, False), "tx_rate_limiter": (LIMITER, False)}),
}

VALUES = {"bool": True, "integer": 7, "string": "text", "object": {}, "list": [], "null": None, "float": 1.5}
# What a wrong value may not be, by kind.
TAKES = {"bool": ("bool",), "string": ("string",), "u8": ("integer",), "u16": ("integer",), "u32": ("integer",),
         "u64": ("integer",)}
MAX = {"u8": 2**8 - 1, "u16": 2**16 - 1, "u32": 2**32 - 1, "u64": 2**53 - 1}


def spread(fields, path=()):
    """Each field of a table and of the tables in it: (path, kind, required)."""
    for name, (kind, required) in fields.items():
        yield (*path, name), kind, required
        if isinstance(kind, dict):
            yield from spread(kind, (*path, name))


def wrong_values(kind):
    """Values that the kind must refuse, as JSON text."""
    if isinstance(kind, dict):
        takes = ("object", "null")
    elif isinstance(kind, tuple):
        takes = ("null",)       # a word is a string, but not any; null depends on the field and is tested elsewhere
    else:
        takes = TAKES[kind.rstrip("?")] + (("null",) if kind.endswith("?") else ())
    for name, value in VALUES.items():
        if name not in takes:
            yield json.dumps(value)
    if isinstance(kind, str) and kind.rstrip("?") in MAX:
        top = MAX[kind.rstrip("?")]
        yield from (str(top + 1), "-1", "-0.5", "1e-3", str(2**64), str(-2**63), "1e308", "1e999", '"1"')
    if isinstance(kind, tuple):
        yield from ('""', f'"{kind[0]} "', f'"{kind[0][::-1]}x"')


def with_field(body, path, text, siblings):
    """The body as text with the field at path replaced by the given JSON text; what encloses it is made up."""
    mark = "@@"
    copy = json.loads(json.dumps(body))
    at = copy
    for name in path[:-1]:
        at = at.setdefault(name, {})
    for sibling, (kind, required) in siblings.items():
        if required and isinstance(kind, str) and kind.startswith("u") and len(path) > 1:
            at.setdefault(sibling, 1)
    at[path[-1]] = mark
    return json.dumps(copy).replace(f'"{mark}"', text).encode()


def siblings_of(fields, path):
    for name in path[:-1]:
        fields = fields[name][0]
    return fields


def wrong_cases():
    for name, (_, _, _, fields) in BODIES.items():
        for path, kind, _ in spread(fields):
            for text in wrong_values(kind):
                yield pytest.param(name, path, text, id=f"{name}-{'.'.join(path)}-{text}")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One monitor for all the requests that must change nothing."""
    from conftest import Vmm
    machine = Vmm(tmp_path_factory.mktemp("shared"))
    untouched = machine.api.get("/vm/config").body
    yield machine.api
    assert machine.api.get("/vm/config").body == untouched
    assert machine.terminate() == 0
    assert "Sanitizer" not in machine.stderr() and "runtime error" not in machine.stderr()


@pytest.mark.parametrize("name, path, text", list(wrong_cases()))
def test_wrong_value(shared, name, path, text):
    method, url, body, fields = BODIES[name]
    response = shared.request(method, url, with_field(body, path, text, siblings_of(fields, path)))
    assert response.status == 400
    assert response.fault.startswith(NOT_JSON + "field `" + ".".join(path) + "`: expected ")
    assert ", found " in response.fault and response.fault.endswith(".")


@pytest.mark.parametrize("name, path", [
    pytest.param(name, path, id=f"{name}-{'.'.join(path)}")
    for name, (_, _, _, fields) in BODIES.items() for path, _, required in spread(fields) if required])
def test_missing_field(shared, name, path):
    method, url, body, fields = BODIES[name]
    whole = json.loads(with_field(body, path, "1", siblings_of(fields, path)))
    at = whole
    for part in path[:-1]:
        at = at[part]
    del at[path[-1]]
    response = shared.request(method, url, whole)
    assert response.status == 400
    assert response.fault.startswith(NOT_JSON + "missing field `" + ".".join(path) + "`: expected ")


@pytest.mark.parametrize("name, path", [
    pytest.param(name, path[:-1], id=f"{name}-{'.'.join(path[:-1])}")
    for name, (_, _, _, fields) in BODIES.items() if name != "metrics"
    for path in sorted({(*path[:-1], "x") for path, _, _ in spread(fields)})])
def test_unknown_field(shared, name, path):
    method, url, body, fields = BODIES[name]
    text = with_field(body, (*path, "unheard_of"), "1", siblings_of(fields, (*path, "unheard_of")))
    response = shared.request(method, url, text)
    assert response.status == 400
    assert response.fault.startswith(NOT_JSON + "unknown field `" + ".".join((*path, "unheard_of")) + "`: expected ")


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("text, fault", (
    ("x", "expected a value (object, array, string, number, true, false, null) at line 1 column 1."),
    ("[]", "expected an object, found an array."),
    ("null", "expected an object, found null."),
    ('"x"', 'expected an object, found the string "x".'),
    ("{", "expected a string in double quotes at line 1 column 2."),
    ("{}}", "text behind the JSON value at line 1 column 3."),
    ("{'a':1}", "expected a string in double quotes at line 1 column 2."),
    ('{"a":1,}', "expected a string in double quotes at line 1 column 8."),
    ('{"a":01}', "a number must not start with 0 at line 1 column 7."),
    ('{"a":NaN}', "expected a value (object, array, string, number, true, false, null) at line 1 column 6."),
    ('{"a":1,"a":2}', "duplicate field `a`."),
    ('{"a":"\\u0000"}', "a string must not contain \\u0000 at line 1 column 9."),
    ('{"a":\n"\t"}', "control character in a string at line 2 column 2."),
    ("[" * 33 + "]" * 33, "nested too deeply at line 1 column 33."),
    ("[" * 25000 + "]" * 25000, "nested too deeply at line 1 column 33."),
))
def test_not_json(shared, name, text, fault):
    method, url, _, _ = BODIES[name]
    response = shared.request(method, url, text.encode())
    assert (response.status, response.fault) == (400, NOT_JSON + fault)


@pytest.mark.parametrize("data", (b'{"a":"\xff"}', b'{"a":"\xed\xa0\x80"}', b'{"a":"\xc0\x80"}'))
def test_not_utf8(shared, data):
    assert shared.put("/entropy", data).fault == NOT_JSON + "invalid UTF-8 at line 1 column 7."


def test_nul_in_the_body(shared):
    assert shared.put("/entropy", b"{}\0").fault == NOT_JSON + "text behind the JSON value at line 1 column 3."
    assert shared.put("/entropy", b'{"a\0":1}').fault == NOT_JSON + "control character in a string at line 1 column 4."


# ---- ids ----

BAD_ID = "API Resource IDs can only contain alphanumeric characters and underscores."


@pytest.mark.parametrize("method, kind", (
    ("PUT", "drives"), ("PATCH", "drives"), ("DELETE", "drives"),
    ("PUT", "network-interfaces"), ("PATCH", "network-interfaces"), ("DELETE", "network-interfaces")))
@pytest.mark.parametrize("bad", ("a-b", "a.b", "..", "a%2fb", "a:b", "a;b", "a?b", "a#b", "a'b", 'a"b', "\\", "é", "a\x7fb"))
def test_bad_ids(shared, method, kind, bad):
    if "\x7f" in bad:
        with shared.connect() as connection:
            connection.send(f"{method} /{kind}/{bad} HTTP/1.1\r\n\r\n")
            assert b"Control characters are not allowed" in connection.recv_rest()
        return
    body = None if method == "DELETE" else {}
    response = shared.request(method, f"/{kind}/{bad}", body)
    assert (response.status, response.fault) == (400, BAD_ID)


@pytest.mark.parametrize("path", ("/drives", "/drives/", "/drives//a", "/network-interfaces", "/network-interfaces/"))
def test_empty_ids(shared, path):
    assert shared.put(path, {}).fault == "The ID cannot be empty."


def test_ids_must_agree(shared):
    body = BODIES["drive"][2]
    assert shared.put("/drives/b", body).fault == "The id from the path does not match the id from the body!"
    assert shared.put("/network-interfaces/b", BODIES["net"][2]).fault == (
        "The id from the path [b] does not match the id from the body [a]!")


def test_long_id(api, tmp_path):
    name = "a" * 500 + "_Z9"
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(512))
    api.ok("PUT", f"/drives/{name}", {"drive_id": name, "is_root_device": False, "path_on_host": str(disk)})
    assert api.get("/vm/config").json["drives"][0]["drive_id"] == name


# ---- methods, paths and states ----

@pytest.mark.parametrize("path", ("/", "/foo", "/machine-config", "/vm/config", "/drives/a"))
def test_presence_of_a_body_comes_first(shared, path):
    assert shared.request("GET", path, {}).fault == "GET request cannot have a body."
    assert shared.request("PUT", path).fault == "Empty PUT request."
    assert shared.request("PUT", path, b"").fault == "Empty PUT request."
    assert shared.request("PATCH", path).fault == "Empty PATCH request."
    assert shared.request("DELETE", path, {}).fault == "Empty Delete request."


@pytest.mark.parametrize("method, path, first", (
    ("GET", "/foo/bar", "foo"), ("GET", "/vm", "vm"), ("GET", "/vm//config", "vm"), ("GET", "/drives/a", "drives"),
    ("GET", "/boot-source", "boot-source"), ("GET", "/version?x=1", "version?x=1"), ("GET", "/%76ersion", "%76ersion"),
    ("PUT", "/", ""), ("PUT", "/vm", "vm"), ("PUT", "/version", "version"), ("PUT", "/Drives/a", "Drives"),
    ("PATCH", "/boot-source", "boot-source"), ("PATCH", "/actions", "actions"), ("DELETE", "/vsock", "vsock"),
    ("DELETE", "/", "")))
def test_unknown_routes(shared, method, path, first):
    body = {} if method in ("PUT", "PATCH") else None
    assert shared.request(method, path, body).fault == f"Invalid request method and/or path: {method} {first}."


@pytest.mark.parametrize("method, path", (
    ("GET", "/balloon"), ("PUT", "/balloon"), ("PATCH", "/balloon"), ("GET", "/balloon/statistics"),
    ("PUT", "/cpu-config"), ("GET", "/mmds"), ("PUT", "/mmds"), ("PATCH", "/mmds"), ("PUT", "/mmds/config"),
    ("PUT", "/pmem/a"), ("PATCH", "/pmem/a"), ("DELETE", "/pmem/a"), ("GET", "/hotplug/memory"), ("PUT", "/hotplug/memory"), ("PATCH", "/hotplug/memory")))
def test_what_is_not_built_says_so(shared, method, path):
    body = {} if method in ("PUT", "PATCH") else None
    response = shared.request(method, path, body)
    assert response.status == 400
    assert response.fault == (f"The requested operation is not supported: {method} /{path.split('/')[1]} is part of "
                              "Firecracker's API and not built into this version yet.")


@pytest.mark.parametrize("method, path, body", (
    ("PATCH", "/drives/a", {"drive_id": "a"}),
    ("PATCH", "/network-interfaces/a", {"iface_id": "a"}),
    ("DELETE", "/drives/a", None),
    ("DELETE", "/network-interfaces/a", None),
    ("PATCH", "/vm", {"state": "Paused"}),
    ("PATCH", "/vm", {"state": "Resumed"}),
    ("PUT", "/actions", {"action_type": "FlushMetrics"}),
    ("PUT", "/actions", {"action_type": "SendCtrlAltDel"})))
def test_not_before_the_start(shared, method, path, body):
    response = shared.request(method, path, body)
    assert (response.status, response.fault) == (400, BEFORE)


def test_start_without_a_kernel(shared):
    assert shared.put("/actions", {"action_type": "InstanceStart"}).fault == (
        "Start microvm error: Cannot start microvm without kernel configuration.")


# ---- what is taken, and read back ----

def test_instance(vmm):
    machine = vmm("--id", "my-id-1")
    answer = machine.api.get("/").json
    assert answer["id"] == "my-id-1" and answer["state"] == "Not started" and answer["app_name"] == "bantam"
    assert answer["vmm_version"] == machine.api.get("/version").json["firecracker_version"]


MACHINE = {"vcpu_count": 1, "mem_size_mib": 128, "smt": False, "track_dirty_pages": False, "huge_pages": "None"}


def test_machine_defaults_put_and_patch(api):
    assert api.get("/machine-config").json == MACHINE
    full = {"vcpu_count": 2, "mem_size_mib": 512, "smt": True, "track_dirty_pages": True, "huge_pages": "2M"}
    api.ok("PUT", "/machine-config", full)
    assert api.get("/machine-config").json == full
    api.ok("PATCH", "/machine-config", {"vcpu_count": 4})
    assert api.get("/machine-config").json == {**full, "vcpu_count": 4}
    api.ok("PATCH", "/machine-config", {"mem_size_mib": 256, "smt": None, "huge_pages": "None"})
    assert api.get("/machine-config").json == {**full, "vcpu_count": 4, "mem_size_mib": 256, "huge_pages": "None"}
    api.ok("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 128})
    assert api.get("/machine-config").json == MACHINE


VCPU_FAULT = ("Machine config error: The number of vCPUs must be greater than 0, less than 32 and must be 1 or an even "
              "number if SMT is enabled.")
MEMORY_FAULT = "Machine config error: The memory size (MiB) is either 0, or not a multiple of the configured page size."


@pytest.mark.parametrize("change, fault", (
    ({"vcpu_count": 0}, VCPU_FAULT), ({"vcpu_count": 33}, VCPU_FAULT), ({"vcpu_count": 255}, VCPU_FAULT),
    ({"vcpu_count": 3, "smt": True}, VCPU_FAULT), ({"mem_size_mib": 0}, MEMORY_FAULT),
    ({"mem_size_mib": 3, "huge_pages": "2M"}, MEMORY_FAULT), ({"mem_size_mib": 3, "huge_pages": "Transparent"}, MEMORY_FAULT)))
def test_machine_faults(shared, change, fault):
    for method, body in (("PUT", {"vcpu_count": 1, "mem_size_mib": 128, **change}), ("PATCH", change)):
        assert shared.request(method, "/machine-config", body).fault == fault


@pytest.mark.parametrize("change", (
    {"vcpu_count": 32}, {"vcpu_count": 3}, {"vcpu_count": 1, "smt": True}, {"mem_size_mib": 2**53 - 1},
    {"mem_size_mib": 3}, {"cpu_template": None}, {"vcpu_count": 1e0}))
def test_machine_edges(api, change):
    api.ok("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 128, **change})


@pytest.mark.parametrize("body", ({}, {"smt": None}, {"vcpu_count": None, "cpu_template": None}))
def test_empty_patch(shared, body):
    assert shared.patch("/machine-config", body).fault == "Empty PATCH request."


def test_cpu_template_is_deprecated(api):
    body = {"vcpu_count": 1, "mem_size_mib": 128}
    assert api.put("/machine-config", body).header("Deprecation") is None
    assert api.put("/machine-config", {**body, "cpu_template": "None"}).header("Deprecation") == "true"
    assert "cpu_template" not in api.get("/machine-config").json
    assert api.patch("/machine-config", {"cpu_template": "None"}).header("Deprecation") == "true"


def test_boot_source(api, tmp_path):
    kernel = tmp_path / "kernel"
    kernel.write_bytes(b"k")
    missing = str(tmp_path / "missing")
    assert api.put("/boot-source", {"kernel_image_path": missing}).fault == (
        "Boot source error: The kernel file cannot be opened: No such file or directory (os error 2)")
    assert api.put("/boot-source", {"kernel_image_path": str(kernel), "initrd_path": missing}).fault == (
        "Boot source error: The initrd file cannot be opened due to invalid path or invalid permissions. "
        "No such file or directory (os error 2)")
    assert api.put("/boot-source", {"kernel_image_path": str(kernel), "boot_args": "x" * 3000}).fault.startswith(
        "Boot source error: The kernel command line is invalid: ")
    assert api.get("/vm/config").json["boot-source"]["kernel_image_path"] == ""
    api.ok("PUT", "/boot-source", {"kernel_image_path": str(kernel), "boot_args": "", "initrd_path": None})
    assert api.get("/vm/config").json["boot-source"] == {
        "kernel_image_path": str(kernel), "initrd_path": None, "boot_args": ""}
    api.ok("PUT", "/boot-source", {"kernel_image_path": str(kernel), "initrd_path": str(kernel)})
    assert api.get("/vm/config").json["boot-source"]["boot_args"] is None


DRIVE_ECHO = {"partuuid": None, "is_root_device": False, "cache_type": "Unsafe", "is_read_only": False,
              "rate_limiter": None, "io_engine": "Sync", "socket": None}


def test_drives(api, tmp_path):
    disk, empty = tmp_path / "disk", tmp_path / "empty"
    disk.write_bytes(bytes(512))
    empty.write_bytes(b"")
    for name in ("b", "c"):
        api.ok("PUT", f"/drives/{name}", {"drive_id": name, "is_root_device": False, "path_on_host": str(empty)})
    api.ok("PUT", "/drives/root", {"drive_id": "root", "is_root_device": True, "path_on_host": str(disk),
                                   "partuuid": "12-34", "is_read_only": True, "cache_type": "Writeback",
                                   "rate_limiter": {"ops": {"size": 1, "refill_time": 2, "one_time_burst": 3}}})
    echo = api.get("/vm/config").json["drives"]
    assert [drive["drive_id"] for drive in echo] == ["root", "b", "c"]      # the root drive comes first
    assert echo[0] == {**DRIVE_ECHO, "drive_id": "root", "path_on_host": str(disk), "is_root_device": True,
                       "partuuid": "12-34", "is_read_only": True, "cache_type": "Writeback", "rate_limiter": {
                           "bandwidth": None, "ops": {"size": 1, "one_time_burst": 3, "refill_time": 2}}}
    assert echo[1] == {**DRIVE_ECHO, "drive_id": "b", "path_on_host": str(empty)}
    # The same id again replaces, in its place.
    api.ok("PUT", "/drives/b", {"drive_id": "b", "is_root_device": False, "path_on_host": str(disk)})
    assert [drive["path_on_host"] for drive in api.get("/vm/config").json["drives"]] == [str(disk), str(disk), str(empty)]


def test_drive_faults(api, tmp_path):
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(512))
    made = "Drive config error: Unable to create the virtio block device: "
    base = {"drive_id": "a", "is_root_device": False}
    assert api.put("/drives/a", base).fault == made + "Invalid block config."
    assert api.put("/drives/a", {**base, "path_on_host": str(disk), "socket": "s"}).fault == made + "Invalid block config."
    missing = str(tmp_path / "missing")
    assert api.put("/drives/a", {**base, "path_on_host": missing}).fault == (
        made + f"Virtio backend error: Error manipulating the backing file: No such file or directory (os error 2) {missing}")
    api.ok("PUT", "/drives/a", {**base, "is_root_device": True, "path_on_host": str(disk)})
    assert api.put("/drives/b", {"drive_id": "b", "is_root_device": True, "path_on_host": str(disk)}).fault == (
        "Drive config error: A root block device already exists!")
    # A drive that could not be replaced is still there.
    assert api.put("/drives/a", {**base, "path_on_host": missing}).status == 400
    assert [drive["drive_id"] for drive in api.get("/vm/config").json["drives"]] == ["a"]


@pytest.mark.parametrize("limiter, echo", (
    (None, None), ({}, None), ({"ops": None}, None), ({"ops": {"size": 0, "refill_time": 1}}, None),
    ({"bandwidth": {"size": 1, "refill_time": 0}}, None),
    ({"bandwidth": {"size": 2**53 - 1, "refill_time": 2**53 - 1}},
     {"bandwidth": {"size": 2**53 - 1, "one_time_burst": None, "refill_time": 2**53 - 1}, "ops": None}),
))
def test_rate_limiters(api, limiter, echo):
    api.ok("PUT", "/entropy", {"rate_limiter": limiter})
    assert api.get("/vm/config").json["entropy"] == {"rate_limiter": echo}


@pytest.mark.parametrize("change, fault", (
    ({"mtu": 67}, "Could not create the network device: MTU 67 is out of range [68, 65535]"),
    ({"mtu": 0}, "Could not create the network device: MTU 0 is out of range [68, 65535]"),
    ({"guest_mac": "zz"}, "MAC"),
    ({"guest_mac": "06:00:AC:10:00"}, "MAC"),
    ({"host_dev_name": "x" * 16}, "Could not create the network device: Open tap device failed: Invalid interface name"),
    ({"host_dev_name": ""}, "Could not create the network device: "),
))
def test_network_faults(shared, change, fault):
    response = shared.put("/network-interfaces/a", {**BODIES["net"][2], **change})
    assert response.status == 400
    assert response.fault.startswith("Network config error: ") and fault in response.fault


def test_vsock(api, tmp_path):
    path = str(tmp_path / "v.sock")
    response = api.put("/vsock", {"guest_cid": 3, "uds_path": path, "vsock_id": "old"})
    assert response.status == 204 and response.header("Deprecation") == "true"
    assert api.get("/vm/config").json["vsock"] == {"guest_cid": 3, "uds_path": path}
    response = api.put("/vsock", {"guest_cid": 4, "uds_path": path})    # some clients send it twice
    assert response.status == 204 and response.header("Deprecation") is None
    taken = tmp_path / "taken"
    taken.write_bytes(b"")
    assert api.put("/vsock", {"guest_cid": 3, "uds_path": str(taken)}).fault.startswith(
        "Vsock config error: Cannot create backend for vsock device: Error binding to the host-side Unix socket: ")


@pytest.mark.parametrize("cid, good", ((0, False), (2, False), (3, True), (2**32 - 2, True), (2**32 - 1, False)))
def test_vsock_cid(api, tmp_path, cid, good):
    response = api.put("/vsock", {"guest_cid": cid, "uds_path": str(tmp_path / "v.sock")})
    assert response.status == (204 if good else 400)


def test_logger(vmm, tmp_path):
    machine = vmm()
    api, log = machine.api, tmp_path / "log"
    assert api.put("/logger", {"log_path": str(tmp_path / "no" / "log")}).fault.startswith("Logger error: ")
    api.ok("PUT", "/logger", {"log_path": str(log), "level": "debug", "show_level": True, "show_log_origin": True})
    api.get("/version")
    api.put("/entropy", {"x": 1})
    lines = log.read_text().splitlines()
    assert any("INFO" in line and 'The API server received a Get request on "/version".' in line for line in lines)
    assert any('The API server received a Put request on "/entropy" with body "{"x": 1}".' in line for line in lines)
    assert any("The request was executed successfully. Status code: 200 OK." in line for line in lines)
    assert any("ERROR" in line and "Received Error. Status code: 400 Bad Request. Message: An error occurred" in line
               for line in lines)
    assert any("DEBUG" in line and "Total previous API call duration: " in line and line.endswith(" us.") for line in lines)
    assert all("api/" in line for line in lines if "API server received" in line)
    # Without a level it is Info again.
    api.ok("PUT", "/logger", {"show_level": True})
    before = len(log.read_text().splitlines())
    api.get("/version")
    assert not any("DEBUG" in line for line in log.read_text().splitlines()[before:])


def test_a_line_break_in_a_body_stays_in_its_log_line(vmm, tmp_path):
    machine = vmm("--log-path", tmp_path / "log")
    machine.api.put("/entropy", b'{\n"rate_limiter"\r\n:\tnull}\n2026 [x] forged')
    lines = (tmp_path / "log").read_text().splitlines()
    assert not any(line.startswith("2026 [x]") or line.startswith('"rate') for line in lines)


def test_metrics(api, tmp_path):
    path = tmp_path / "metrics"
    assert api.put("/metrics", {"metrics_path": str(tmp_path / "no" / "m")}).fault.startswith(
        "Metrics error: Cannot initialize the metrics system due to bad user input: ")
    api.ok("PUT", "/metrics", {"metrics_path": str(path), "unknown fields": "are taken here"})
    assert api.put("/metrics", {"metrics_path": str(path)}).fault == (
        "Metrics error: Cannot initialize the metrics system due to bad user input: "
        "Reinitialization of metrics not allowed.")


def test_nothing_configured(api):
    assert api.get("/vm/config").body == (
        b'{"balloon":null,"drives":[],"boot-source":{"kernel_image_path":"","initrd_path":null,"boot_args":null},'
        b'"cpu-config":null,"logger":null,"machine-config":{"vcpu_count":1,"mem_size_mib":128,"smt":false,'
        b'"track_dirty_pages":false,"huge_pages":"None"},"metrics":null,"mmds-config":null,"network-interfaces":[],'
        b'"vsock":null,"entropy":null,"pmem":[],"memory-hotplug":null}')
