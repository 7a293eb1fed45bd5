"""Where what podrail remembers, what the kernel has and what others were told disagree."""
