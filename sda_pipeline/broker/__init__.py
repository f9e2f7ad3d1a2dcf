"""The broker port and its adapters. Not the meaning of what is consumed."""
