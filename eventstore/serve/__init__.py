"""The store served over gRPC: to a Codex that keeps its threads here, and to clients that are stores themselves."""
