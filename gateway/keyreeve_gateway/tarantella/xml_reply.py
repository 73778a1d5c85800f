"""The XML form of the legacy product's replies to programs (`ITarantellaAdmin.runCommand`)."""

from collections.abc import Iterable, Iterator, Mapping

_NAMESPACE = "http://xml.tarantella.com/2001/soapreply.xsd"


def xml_reply(objects: Iterable[tuple[str, Mapping[str, str]]]) -> Iterator[str]:
    """Yield the lines of a reply: named objects with attributes."""
    from html import escape

    yield f'<tta:response xmlns:tta="{_NAMESPACE}">'
    for name, attributes in objects:
        yield f'  <obj name="{escape(name)}">'
        for attribute, value in attributes.items():
            yield f'    <attr name="{escape(attribute)}">{escape(value)}</attr>'
        yield "  </obj>"
    yield "</tta:response>"
