"""Synthetic certificates look real to readers: their blocks are consistent, and lists and lookups find them."""

from contextlib import ExitStack

from cryptography import x509
from sqlalchemy import text

from keyreeve_bench.fill import CALLERS, fill, open_engine
from keyreeve_ca.certificates.serials import block_of
from keyreeve_ca.ledger.ports import BLOCK_SIZE
from keyreeve_ca.store.ports import CertificateFilter
from support.databases import CaBench, CaDatabase
from support.ledger_entries import NOW, Block

COUNT = 2 * BLOCK_SIZE + 300


async def test_synthetic_certificates_are_found_beside_issued_ones(ca_database: CaDatabase) -> None:
    bench = await CaBench.on(ca_database)
    before = await Block.leased(bench.ledger)
    await bench.ledger.commit(before.group())
    real = await bench.stored()
    if ca_database.is_sqlite:
        ca_database.close()  # the file has one coordinator at a time
    with ExitStack() as stack:
        url = f"sqlite:///{ca_database.location}" if ca_database.is_sqlite else ca_database.location
        filled = fill(open_engine(url, stack), COUNT, NOW)
    if ca_database.is_sqlite:
        bench = CaBench(ca_database)
    stored = await bench.stored()
    assert len(stored) == COUNT + len(real)
    assert stored[COUNT:] == real, "synthetic certificates come before the existing ones"
    assert (filled.certificates, filled.blocks) == (COUNT, 3)
    wanted = bytes.fromhex(filled.serials[1])
    one = await bench.store.read(lambda tx: tx.certificate(wanted))
    assert x509.load_der_x509_certificate(one.der).serial_number == int.from_bytes(wanted, "big")
    of_identity = CertificateFilter(identity=one.identity)
    assert wanted in [
        c.serial for c in await bench.store.read(lambda tx: tx.certificates(of_identity, after=b"", limit=100))
    ]
    callers = [CertificateFilter(caller=f"spiffe://bench.localhost/workloads/filled-{n}") for n in range(CALLERS)]
    counts = [await bench.store.read(lambda tx, c=c: tx.count_certificates(c, after=b"")) for c in callers]
    assert sum(found for found, _ in counts) == COUNT
    summary = "SELECT count(*), sum(committed + 1), count(DISTINCT number) FROM serial_blocks"
    assert await bench.writer.read(lambda c: tuple(c.execute(text(summary)).one())) == (4, COUNT + len(real), 4)
    after = await Block.leased(bench.ledger)
    await bench.ledger.commit(after.group())
    assert block_of(max(await bench.stored())) == after.lease.block_id
