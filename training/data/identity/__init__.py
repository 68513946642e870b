"""Identity resolution: accounts linked to customers, stable customer ids, and review rules."""
