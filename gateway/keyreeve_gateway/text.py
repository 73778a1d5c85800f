"""Text of one line from anywhere, made safe to print."""


def one_line(text: str) -> str:
    r"""Return the text with everything that is not printable as `\x1b` or `\u202e`."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else _escape(ord(letter)) for letter in text)


def _escape(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def last_part(name: str) -> str:
    """The last part of a resource name: `web-1.example.com` of `members/web-1.example.com`."""
    return name.rpartition("/")[2]
