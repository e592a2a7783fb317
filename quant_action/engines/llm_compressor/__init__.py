"""GPTQ by the library llm-compressor, in the environment `modern`; writes compressed-tensors."""
