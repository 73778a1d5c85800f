"""Policy rules: default deny, patterns, membership."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyreeve.caller_values import MemberRecord
from keyreeve.errors import FieldInvalid
from keyreeve.values import MemberState
from keyreeve_credentials.policies.checking import standing_of
from keyreeve_credentials.policies.rules import (
    BUILT_IN_POLICY,
    Access,
    Membership,
    Policy,
    Rule,
    Standing,
    check_policy,
    decide,
    glob,
    in_force,
)

BILL = Access("members/web.example.test", Standing.MEMBER, "sales", ".../_ens/o=Indigo/cn=Bill", ".../_wns/I", "launch")


def allowed(access: Access, *rules: Rule) -> bool:
    return decide([Policy("p", 1, rules)], access).allowed


def test_what_no_rule_allows_is_denied() -> None:
    assert not decide([], BILL).allowed
    assert not allowed(BILL)
    assert not allowed(BILL, Rule(("members/*",), ("list",)), Rule(("operators/*",), ("launch",)))
    assert decide([Policy("a", 1, ()), Policy("b", 1, (Rule(("*",), ("*",)),))], BILL).policy == "b"


@pytest.mark.parametrize("part", ["callers", "purposes", "arrays", "owners", "resources"])
def test_every_part_of_a_rule_has_to_match(part: str) -> None:
    given_parts = {
        "callers": ("members/web.*",),
        "purposes": ("la*", "x"),
        "arrays": ("sales",),
        "owners": (".../_ens/O=INDIGO/*",),
        "resources": ("*_wns/i",),
    }
    assert allowed(BILL, Rule(**given_parts))
    assert not allowed(BILL, Rule(**{**given_parts, part: ("other",)}))


def test_a_rule_about_the_login_password_names_the_empty_resource() -> None:
    login = Access("operators/admin/ann", Standing.NONE, "sales", "anonymous", "", "support")
    assert allowed(login, Rule(("*",), ("*",), resources=("",)))
    assert not allowed(BILL, Rule(("*",), ("*",), resources=("",)))


@pytest.mark.parametrize(("membership", "standing"), list(itertools.product(Membership, Standing)))
def test_membership_is_a_condition_and_a_primary_is_a_member(membership: Membership, standing: Standing) -> None:
    access = Access("members/web", standing, "sales", "o", "r", "launch")
    order = [Standing.NONE, Standing.MEMBER, Standing.PRIMARY]
    needed = {Membership.ANY: 0, Membership.MEMBER_OF_ARRAY: 1, Membership.PRIMARY_OF_ARRAY: 2}[membership]
    assert allowed(access, Rule(("members/*",), ("launch",), membership)) == (order.index(standing) >= needed)


@pytest.mark.parametrize("state", MemberState)
@pytest.mark.parametrize("primary", [True, False])
@pytest.mark.parametrize("array", ["arrays/sales", "arrays/finance"])
def test_only_a_current_member_of_this_array_has_a_standing(state: MemberState, primary: bool, array: str) -> None:
    record = MemberRecord("uid", "spiffe://td/members/web", array, state, primary)
    current = state in {MemberState.MEMBER, MemberState.STANDALONE} and array == "arrays/sales"
    expected = (Standing.PRIMARY if primary else Standing.MEMBER) if current else Standing.NONE
    assert standing_of(record, "sales") is expected
    assert standing_of(None, "sales") is Standing.NONE


def test_the_built_in_policy_lets_members_launch_and_only_a_primary_manage() -> None:
    def ask(caller: str, standing: Standing, purpose: str) -> bool:
        return decide(in_force([]), Access(caller, standing, "sales", "o", "r", purpose)).allowed

    member, admin, auditor = "members/web", "operators/admin/ann", "operators/auditor/ada"
    assert ask(member, Standing.MEMBER, "launch")
    assert not ask(member, Standing.MEMBER, "manage")
    assert ask(member, Standing.PRIMARY, "manage")
    assert not ask(member, Standing.NONE, "launch")
    assert not ask(member, Standing.PRIMARY, "support")
    assert ask(admin, Standing.NONE, "support")
    assert not ask("operators/operator/olaf", Standing.NONE, "support")
    assert ask(auditor, Standing.NONE, "list")
    assert not ask(auditor, Standing.NONE, "manage")
    assert not ask("workloads/billing/api", Standing.NONE, "list")


def test_the_built_in_policy_is_replaced_by_one_of_its_name() -> None:
    assert in_force([Policy("x", 1, ())])[0] is BUILT_IN_POLICY
    replaced = Policy("built-in", 1, ())
    assert in_force([replaced]) == (replaced,)


@given(st.text("ab*", max_size=8), st.text("ab", max_size=8))
def test_patterns_match_as_the_regular_expression_does(pattern: str, text: str) -> None:
    expression = ".*".join(re.escape(part) for part in pattern.split("*"))
    assert glob(pattern, text) == bool(re.fullmatch(expression, text))


@pytest.mark.parametrize(
    "policy",
    [
        Policy("", 0, ()),
        Policy("Support", 0, ()),
        Policy("p", 0, (Rule((), ("*",)),)),
        Policy("p", 0, (Rule(("*",), ()),)),
        Policy("p", 0, (Rule(("spiffe://td/members/*",), ("*",)),)),
        Policy("p", 0, (Rule(("a\n",), ("*",)),)),
        Policy("p", 0, (Rule(("*",), ("x" * 513,)),)),
        Policy("p", 0, (Rule(("*",), ("*",)),) * 201),
    ],
)
def test_a_policy_that_is_not_well_formed_is_refused(policy: Policy) -> None:
    with pytest.raises(FieldInvalid):
        check_policy(policy)
