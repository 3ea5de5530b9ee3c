"""Engines: how the optimizer steps of a phase are computed. All give the same gradients.

`blueprint` cuts a network into a chain of parts, `engine` turns the parts into stages that suit the
phase, and each stage computes its outputs and gradients in a way of its own: `dense`, `sparse`,
`convolution`, or PyTorch's autograd (`stages`). `cost` chooses, and `arena` holds what is trained.
"""
