"""Heavy work in a process of its own: environments, child processes, and the files between them and the host."""
