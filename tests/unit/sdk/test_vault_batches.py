"""Files of entries to import: the legacy batch form and JSON lines, with line-numbered errors."""

import pytest

from keyreeve.errors import ImportRefused
from keyreeve.plaintext import Plaintext
from keyreeve.vault_batches import parse_batch, parse_json_lines
from keyreeve.vault_values import EntryKind, ImportRow


def test_a_batch_has_the_options_of_passcache_new_in_each_line():
    rows = parse_batch(
        '--person "o=Indigo Insurance/cn=Bill Orange" --resource .../_dns/prague --resuser bill --respass "a \\"b\\\\ c"\n'
        "\n"
        "--resuser guest --anon --respass x --resource .../_wns/INDIGO\n"
        '--ldap --resource .../_dns/ignored --resuser "cn=Bill,o=Indigo" --respass ""\n'
    )
    assert rows == [
        ImportRow(1, "o=Indigo Insurance/cn=Bill Orange", ".../_dns/prague", "bill", Plaintext.of('a "b\\ c')),
        ImportRow(3, "anonymous", ".../_wns/INDIGO", "guest", Plaintext.of("x")),
        ImportRow(4, "ldap", "", "cn=Bill,o=Indigo", Plaintext.of("")),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "--anon --resource r --resuser u",
        "--resource r --resuser u --respass canary",
        "--anon --ldap --resource r --resuser u --respass canary",
        "--anon --resource r --resuser u --respass",
        "--anon --resource r --resource s --resuser u --respass canary",
        '--anon --resource r --resuser u --respass "canary',
        "--anon --resource r --resuser u --respass canary extra",
        "--unknown x",
    ],
)
def test_a_wrong_line_is_named_without_its_password(line: str):
    good = "--anon --resource r --resuser u --respass p"
    with pytest.raises(ImportRefused) as refused:
        parse_batch(f"{good}\n{line}\n{line}\n")
    assert [violation.field for violation in refused.value.violations] == ["lines[2]", "lines[3]"]
    assert "canary" not in str([refused.value.message, *refused.value.violations])


def test_json_lines_have_one_object_each():
    rows = parse_json_lines(
        '{"owner": "anonymous", "resource": ".../_wns/I", "user_name": "u", "secret": "p"}\n'
        '{"owner": "o=I/cn=B", "user_name": "b", "kind": "smart_card", "domain": "I"}\n'
    )
    assert rows == [
        ImportRow(1, "anonymous", ".../_wns/I", "u", Plaintext.of("p")),
        ImportRow(2, "o=I/cn=B", "", "b", None, EntryKind.SMART_CARD, "I"),
    ]
    for line in (
        "[]",
        "{",
        '{"owner": "x"}',
        '{"owner": 1, "user_name": "u"}',
        '{"owner": "x", "user_name": "u", "z": "y"}',
    ):
        with pytest.raises(ImportRefused):
            parse_json_lines(line)
