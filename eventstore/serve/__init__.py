"""Threads served over gRPC, to a Codex that keeps its own here."""
