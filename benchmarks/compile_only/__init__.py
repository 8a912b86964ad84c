"""What the compiled training step moves, keeps and exchanges on devices that are not there.

``python -m benchmarks.compile_only`` compiles it ahead of time for NVIDIA H100 and Google TPU v5e and reads
the optimised program. See docs/decisions/015-compile-only.md.
"""
