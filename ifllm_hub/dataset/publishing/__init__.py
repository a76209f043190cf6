"""A dataset folder on the Hub: what is sent, in one commit, and the earlier versions."""
