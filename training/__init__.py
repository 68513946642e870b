"""Everything that learns: data, profiles, recommendations, language, and their export."""
