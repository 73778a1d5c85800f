"""docs/profiles.md describes every key, and its example is a valid profile that uses all of them."""

import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from pydantic import BaseModel

from keyreeve.identity import Role
from keyreeve.values import Hierarchy
from keyreeve_ca.profiles.builtin import builtin_profiles
from keyreeve_ca.profiles.document import ProfileDocument, read_profile, sections
from keyreeve_ca.profiles.profile import CommonName, ExtendedKeyUsage, KeyUsage, Requests, SubjectAttribute
from keyreeve_chassis.keys.key_types import KeyType
from support.plans import TRUST_DOMAIN

PAGE = (Path(__file__).parents[4] / "docs" / "profiles.md").read_text("utf-8")


def keys_of(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    inner = dict(sections(section))
    for key in section.model_fields:
        if key not in inner or prefix:
            yield prefix + key
        if key in inner:
            yield from keys_of(inner[key], f"{prefix}{key}.")


def test_the_page_has_one_row_for_each_key_and_for_no_other():
    documented = re.findall(r"^\| `([a-z_.]+)` \|", PAGE.partition("## The built-in")[0], re.MULTILINE)
    assert len(documented) == len(set(documented))
    assert set(documented) == set(keys_of(ProfileDocument))


def test_the_page_names_every_value_of_every_choice():
    for choice in (Role, KeyType, Hierarchy, CommonName, Requests, SubjectAttribute, KeyUsage, ExtendedKeyUsage):
        for value in choice:
            assert f"`{value}`" in PAGE, value


def test_the_pages_example_is_sound_and_uses_every_key():
    [example] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    read_profile(example, TRUST_DOMAIN)

    def used(values: dict, prefix: str = "") -> Iterator[str]:
        for key, value in values.items():
            if not isinstance(value, dict) or prefix:
                yield prefix + key
            if isinstance(value, dict):
                yield from used(value, f"{prefix}{key}.")

    found = {key for key in used(yaml.safe_load(example)) if not key.startswith("subject.fixed.")}
    assert found == set(keys_of(ProfileDocument))


def test_the_page_lists_each_built_in_profile_with_its_hierarchy():
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (control|estate|standalone) \|", PAGE, re.MULTILINE))
    assert rows == {name: str(profile.hierarchy) for name, (_, _, profile) in builtin_profiles(TRUST_DOMAIN).items()}
