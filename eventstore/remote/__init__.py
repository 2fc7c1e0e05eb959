"""A store that a server keeps: the client of the server's own service."""
