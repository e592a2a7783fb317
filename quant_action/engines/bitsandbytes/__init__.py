"""bitsandbytes: NF4 and FP4 (QLoRA, arXiv 2305.14314) and LLM.int8 (arXiv 2208.07339), through transformers."""
