"""The settings of a gRPC server. Apart from the server: what reads settings need not load that."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ServingSettings(BaseModel):
    """Where a service listens and how much it accepts. Durations in seconds, sizes in bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(
        "127.0.0.1", description="Address of the mutual-TLS listener; `unix:` and a path: a Unix socket, for this user."
    )
    port: int = Field(0, ge=0, le=65535, description="Its port; 0 lets the system choose.")
    tls_minimum: Literal["1.2", "1.3"] = Field(
        "1.3", description="The earliest version of TLS that is accepted; sessions do not resume in either."
    )
    health_host: str = Field(
        "127.0.0.1", description="Address of the plaintext listener, which serves health alone; `unix:` and a path too."
    )
    health_port: int | None = Field(0, ge=0, le=65535, description="Its port; 0 lets the system choose, null: none.")
    reflection: bool = Field(default=True, description="Serve the contract's descriptors to every verified caller.")
    request_bytes: int = Field(
        2 * 1024 * 1024, ge=1024, description="Largest request of a method that takes batches or files."
    )
    single_request_bytes: int = Field(256 * 1024, ge=1024, description="Largest request of any other method.")
    metadata_bytes: int = Field(16 * 1024, ge=1024, description="Largest metadata that is read.")
    calls_in_flight: int = Field(512, ge=1, description="Calls in progress at once in one process.")
    streams_in_flight: int = Field(1024, ge=1, description="Streams open at once in one process.")
    connections_per_peer: int = Field(64, ge=1, description="Connections of one identity with calls in progress.")
    connections: int = Field(8192, ge=1, description="Connections of one process, of all callers together.")
    open_connections_per_peer: int = Field(
        256, ge=1, description="Connections of one identity, with calls in progress or without."
    )
    connections_per_address: int = Field(
        4096, ge=1, description="Connections of one address (for IPv6: one /64), from before the handshake on."
    )
    streams_per_connection: int = Field(
        100,
        ge=1,
        description="Calls and streams at once on one connection, as clients are told; they wait for their turn. As many "
        "canceled calls more whose handlers still run.",
    )
    buffered_bytes: int = Field(
        64 * 1024 * 1024,
        ge=1024 * 1024,
        description="Requests and answers that one process buffers for all connections; beyond it the oldest unfinished "
        "calls of the caller that holds the most are refused.",
    )
    resets_burst: int = Field(1000, ge=1, description="Calls that a connection may reset, or make wrongly, at once.")
    resets_per_second: int = Field(
        100,
        ge=1,
        description="The same in each second for long; beyond it the connection ends. One identity has four times as many "
        "on all its connections.",
    )
    refusals_burst: int = Field(
        2000,
        ge=1,
        description="Calls of one identity at once that are refused for a fault of its own; an answer makes up for one.",
    )
    refusals_per_second: int = Field(
        200, ge=1, description="The same in each second for long; beyond it the identity's connections end."
    )
    message_timeout: float = Field(10, gt=0, description="Time in which a request that has begun must arrive.")
    stall_timeout: float = Field(60, gt=0, description="When an answer that its caller does not read is given up.")
    deadline: float = Field(60, gt=0, description="Longest deadline that a call may ask for.")
    stream_life: float = Field(3600, gt=0, description="When a long stream is ended, to be opened again.")
    verify_interval: float = Field(1.0, gt=0, description="How often the caller of an open stream is verified again.")
    handshakes: int = Field(256, ge=1, description="Handshakes at once; beyond it the oldest is given up.")
    handshake_timeout: float = Field(10, gt=0, description="Time in which a connection must finish its handshake.")
    connection_age: float = Field(
        1800, gt=0, description="When a connection is asked to end; below the shortest certificate's life."
    )
    connection_grace: float = Field(60, gt=0, description="How long its calls may then still take.")
    connection_idle: float = Field(300, gt=0, description="When a connection without calls is closed.")
    keepalive_interval: float = Field(
        60, gt=0, description="How often a silent connection is asked for a sign of life."
    )
    keepalive_timeout: float = Field(20, gt=0, description="How long it may take to give one.")
    ping_interval: float = Field(10, gt=0, description="A client that pings more often than this is disconnected.")
