import pytest
from google.protobuf import struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from keyreeve.errors import FieldInvalid
from keyreeve_chassis.guard.router import enum_check, parser
from support.echo_service import EchoRequest, EchoResponse

parse = parser(EchoRequest.DESCRIPTOR)
KNOWN = {0, 1}


def with_color(where: str, number: int):
    request = EchoRequest()
    match where:
        case "color":
            request.color = number
        case "items[1].color":
            request.items.add()
            request.items.add(color=number)
        case "items[0].child.color":
            request.items.add().child.color = number
        case "by_name['x']":
            request.by_name["x"] = number
    return request.SerializeToString()


@pytest.mark.parametrize("where", ["color", "items[1].color", "items[0].child.color", "by_name['x']"])
@given(number=st.integers(0, 2**31 - 1))
def test_an_enum_number_is_read_exactly_when_it_has_a_name(where, number):
    data = with_color(where, number)
    if number in KNOWN:
        parse(data)
    else:
        with pytest.raises(FieldInvalid) as refused:
            parse(data)
        assert refused.value.violations[0].field == where


@given(data=st.binary(max_size=64))
def test_any_bytes_are_read_or_refused_and_what_is_read_is_all_known(data):
    try:
        message = parse(data)
    except FieldInvalid:
        return
    assert parser(EchoRequest.DESCRIPTOR)(message.SerializeToString()) == message


@pytest.mark.parametrize(
    "data", [b"\xa0\x06\x01", b"\x12\x03\xa0\x06\x01", b"\x12\x05\x12\x03\xa0\x06\x01", b"\x0a\x01x\xf2\x3f\x00"]
)
def test_a_field_that_is_not_known_is_refused_at_any_depth(data):
    EchoRequest.FromString(data)
    with pytest.raises(FieldInvalid, match="does not have"):
        parse(data)


def test_a_service_that_is_not_strict_reads_what_it_does_not_know():
    parser(EchoRequest.DESCRIPTOR, strict=False)(b"\xa0\x06\x01")


def test_a_type_without_enums_needs_no_check_and_one_that_holds_itself_is_checked():
    assert enum_check(EchoResponse.DESCRIPTOR) is None
    check = enum_check(struct_pb2.Value.DESCRIPTOR)
    assert check is not None
    check(struct_pb2.Value(list_value=struct_pb2.ListValue(values=[struct_pb2.Value(null_value=0)])), "")
