"""Who is who: accounts linked to customers, ids that stay, and what people say of a pair."""
