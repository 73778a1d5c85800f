"""test.inventory.v1.InventoryService, built here: what a service of the product has in proto/."""

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

import keyreeve.operations.v1.operation_service_pb2  # noqa: F401 - the pool knows its messages from here on

SERVICE = "/test.inventory.v1.InventoryService/"
_FIELDS = {
    "Item": ("name", "creator"),
    "AddItemRequest": ("item_id", "request_id"),
    "CountItemsRequest": ("request_id",),
    "WatchItemsRequest": (),
    "ListItemsRequest": ("page_size", "page_token"),
    "ListItemsResponse": ("items", "next_page_token"),
}
_METHODS = {"AddItem": "Item", "ListItems": "ListItemsResponse", "WatchItems": "Item", "CountItems": None}


def _file() -> descriptor_pb2.FileDescriptorProto:
    package, kind = ".test.inventory.v1.", descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="test/inventory.proto", package="test.inventory.v1", syntax="proto3")
    operations = "keyreeve.operations.v1"
    file.dependency.append("keyreeve/operations/v1/operation_service.proto")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for number, field in enumerate(fields, 1):
            added = message.field.add(name=field, number=number, type=kind.TYPE_STRING, label=1)
            if field == "page_size":
                added.type = kind.TYPE_INT32
            elif field == "items":
                added.type, added.type_name, added.label = kind.TYPE_MESSAGE, f"{package}Item", 3
    service = file.service.add(name="InventoryService")
    for name, answer in _METHODS.items():
        output = f"{package}{answer}" if answer else f".{operations}.Operation"
        watch = name.startswith("Watch")
        service.method.add(name=name, input_type=f"{package}{name}Request", output_type=output, server_streaming=watch)
    return file


_pool = descriptor_pool.Default()  # type: ignore[no-untyped-call]
_pool.Add(_file())
DESCRIPTOR = _pool.FindServiceByName("test.inventory.v1.InventoryService")


def _message(name: str) -> type[Message]:
    return GetMessageClass(_pool.FindMessageTypeByName(f"test.inventory.v1.{name}"))


Item, ListItemsResponse = _message("Item"), _message("ListItemsResponse")
AddItemRequest, CountItemsRequest = _message("AddItemRequest"), _message("CountItemsRequest")
ListItemsRequest, WatchItemsRequest = _message("ListItemsRequest"), _message("WatchItemsRequest")
