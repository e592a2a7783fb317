"""Stand-ins for services that tests cannot reach: real servers in a thread, spoken to by the real clients."""
