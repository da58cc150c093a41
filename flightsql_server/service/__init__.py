"""What the server does, in Flight SQL's nouns: sessions, statements, metadata. No wire, no SQL parser, no engine."""
