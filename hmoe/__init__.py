"""HMoE-SiMBA, reproduced: the modules are listed in CONTRIBUTING.md, in the order of the paper."""
