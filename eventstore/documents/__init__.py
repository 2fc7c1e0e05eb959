"""Parameters and results of the thread store: frozen pydantic models that refuse unknown fields (contract §1)."""
