"""Our own GPTQ, AWQ and round-to-nearest: one pass through the model, layer by layer, on CPU or CUDA.

`engine` is the description that the planner reads; everything else runs in the worker and needs torch.
"""
