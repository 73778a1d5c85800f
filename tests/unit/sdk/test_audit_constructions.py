"""The audit log's bytes and trees equal the committed vectors and those of RFC 6962."""

import json
import runpy
from pathlib import Path
from random import Random

import pytest

from keyreeve.audit import merkle
from keyreeve.audit.log import ChainState, Checkpoint, Head, Registration, digest, leaves_of, link_hash
from keyreeve.audit.record import Record, RecordInvalid, clean

VECTORS = Path(__file__).parents[2] / "vectors"
TOLD = json.loads((VECTORS / "audit.json").read_text())
# The leaves and roots that the tests of Certificate Transparency (RFC 6962) use.
CT_LEAVES = [
    bytes.fromhex(x)
    for x in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def record_from(vector):
    values = {name: vector[name] for name in Record._fields}
    values |= {name: tuple(tuple(pair) for pair in vector[name]) for name in ("targets", "results")}
    return Record(**values)


def test_the_committed_vectors_are_what_their_generator_makes():
    generator = runpy.run_path(str(VECTORS / "make_audit.py"))
    assert (VECTORS / "audit.json").read_text() == generator["vectors"]()


@pytest.mark.parametrize("vector", TOLD["records"], ids=lambda v: v["call_id"])
def test_records_equal_their_vectors_and_come_back_from_their_bytes(vector):
    record = record_from(vector)
    assert record.encode().hex() == vector["record"]
    assert leaves_of([record.encode()])[0].hex() == vector["leaf"]
    assert Record.decode(record.encode()) == record


@pytest.mark.parametrize("cut", [1, 4, 30, -1])
def test_a_record_that_is_cut_is_refused(cut):
    with pytest.raises(RecordInvalid):
        Record.decode(bytes.fromhex(TOLD["records"][1]["record"])[:cut])


def test_what_cannot_be_written_as_utf8_is_escaped_and_what_is_long_is_cut():
    assert clean("a\ud800" + "b" * 1000) == "a\\ud800" + "b" * 254


def test_links_equal_their_vectors():
    genesis = {}
    for chain in TOLD["chains"]:
        made = Registration(
            bytes.fromhex(chain["chain"]), chain["restore_generation"], chain["writer"], chain["registered"]
        )
        assert made.genesis().hex() == chain["genesis"]
        genesis[chain["chain"]] = chain["genesis"]
    bodies = [bytes.fromhex(vector["record"]) for vector in TOLD["records"]]
    for link in TOLD["links"]:
        assert link["previous"] == genesis[link["chain"]]
        leaves = leaves_of(bodies[: link["records"]])
        assert merkle.root_of(leaves).hex() == link["merkle_root"]
        made = link_hash(
            bytes.fromhex(link["chain"]), link["n"], bytes.fromhex(link["previous"]), leaves, link["db_time"]
        )
        assert made.hex() == link["link"]
        genesis[link["chain"]] = link["link"]


def test_checkpoints_equal_their_vectors_and_come_back_from_their_bytes():
    for vector in TOLD["checkpoints"]:
        heads = tuple(
            Head(bytes.fromhex(chain), n, bytes.fromhex(link), ChainState(state))
            for chain, n, link, state in vector["heads"]
        )
        values = {name: vector[name] for name in ("k", "restore_generation", "time", "horizon", "size")}
        made = Checkpoint(
            previous=bytes.fromhex(vector["previous"]), root=bytes.fromhex(vector["root"]), heads=heads, **values
        )
        assert made.encode().hex() == vector["body"]
        assert digest(made.encode()).hex() == vector["digest"]
        assert Checkpoint.decode(made.encode()) == made


def test_the_roots_are_those_of_certificate_transparency():
    frontier = merkle.Frontier()
    for leaf, root in zip(CT_LEAVES, CT_ROOTS, strict=True):
        frontier.append(merkle.leaf_hash(leaf))
        assert frontier.root().hex() == root
    assert merkle.EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_proofs_equal_their_vectors_and_hold():
    leaves = [merkle.leaf_hash(bytes.fromhex(link["link"])) for link in TOLD["links"]]

    def hashes(start, end):
        return merkle.root_of(leaves[start:end])

    for vector in TOLD["consistency"]:
        proof = merkle.consistency_proof(vector["old"], vector["new"], hashes)
        assert [p.hex() for p in proof] == vector["proof"]
        roots = bytes.fromhex(vector["old_root"]), bytes.fromhex(vector["new_root"])
        assert merkle.is_consistent(vector["old"], roots[0], vector["new"], roots[1], proof)
    for vector in TOLD["inclusion"]:
        path = merkle.inclusion_proof(vector["index"], vector["size"], hashes)
        assert [p.hex() for p in path] == vector["path"]
        assert merkle.includes(
            leaves[vector["index"]], vector["index"], vector["size"], path, bytes.fromhex(vector["root"])
        )


def test_no_changed_proof_holds():
    random = Random(6962)
    leaves = [random.randbytes(32) for _ in range(70)]

    def hashes(start, end):
        return merkle.root_of(leaves[start:end])

    for _ in range(400):
        new = random.randint(2, 70)
        old = random.randint(1, new - 1)
        proof = merkle.consistency_proof(old, new, hashes)
        at, way = random.randrange(len(proof)), random.randrange(3)
        changed = (
            [*proof[:at], random.randbytes(32), *proof[at + 1 :]]
            if way == 0
            else proof[:-1]
            if way == 1
            else [*proof, proof[0]]
        )
        assert merkle.is_consistent(old, hashes(0, old), new, hashes(0, new), proof)
        assert not merkle.is_consistent(old, hashes(0, old), new, hashes(0, new), changed)
        index = random.randrange(new)
        path = merkle.inclusion_proof(index, new, hashes)
        assert merkle.includes(leaves[index], index, new, path, hashes(0, new))
        assert not merkle.includes(leaves[index], index, new, [*path, path[0]], hashes(0, new))
        assert not merkle.includes(random.randbytes(32), index, new, path, hashes(0, new))


def test_a_frontier_lists_every_complete_subtree():
    leaves = [bytes([i]) * 32 for i in range(13)]
    told = {}
    frontier = merkle.Frontier(on_node=lambda height, number, found: told.__setitem__((height, number), found))
    frontier.extend(leaves)
    wanted = {
        (height, number): merkle.root_of(leaves[number << height : (number + 1) << height])
        for height in (1, 2, 3)
        for number in range(13 >> height)
    }
    assert told == wanted
