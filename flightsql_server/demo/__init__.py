"""The demo: a seeded market of 500 symbols and the desk that trades it, played through the front door."""
