"""What runs beside Triton: contracts, releases, the server and the client; no training library."""
