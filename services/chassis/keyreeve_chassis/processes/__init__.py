"""The processes of one service: process manager, fork server, lifecycle, ipc, failpoints."""
