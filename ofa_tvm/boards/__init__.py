"""Boards reached over SSH: set-up, RPC server, link to the host, and emulated ones to try it all on."""
