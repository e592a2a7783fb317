"""GPTQ by the archived library AutoGPTQ, in the environment `legacy`."""
