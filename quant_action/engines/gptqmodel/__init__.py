"""GPTQ by the library GPTQModel, in the environment `modern`."""
