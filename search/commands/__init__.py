"""The commands of `recsweep`, by what they are about; heavy libraries are imported inside the commands."""
