"""The dataset card and its companions, written from what lies in the folder."""
