"""AWQ by the archived library AutoAWQ, in the environment `legacy`."""
