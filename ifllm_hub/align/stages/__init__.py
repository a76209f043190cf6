"""What each script of `training/` trains: SFT, DPO, KTO, GRPO, and reward models that read text."""
