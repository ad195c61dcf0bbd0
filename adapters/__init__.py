"""Fine-tuning in folders: checks on what is brought here, a store of what is there, and how it was made."""
