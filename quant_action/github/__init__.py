"""The only part that knows GitHub: what a run is about (`event`), and where its result is shown (`comment`, `checks`, `summary`)."""
