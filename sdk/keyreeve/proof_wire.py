"""Translation of proofs into messages."""

from google.protobuf.timestamp_pb2 import Timestamp

from keyreeve.ca.v1 import operator_session_service_pb2 as pb
from keyreeve.proof_values import CertificateProof


def to_certificate_proof(proof: CertificateProof) -> pb.CertificateProof:
    """Translate a proof into a message."""
    return pb.CertificateProof(
        certificate_der=proof.certificate_der,
        nonce=proof.nonce,
        time=Timestamp(seconds=proof.time),
        signature=proof.signature,
    )
