"""Data-protection requests of customers: erasure, access, and renewal of pseudonyms."""
