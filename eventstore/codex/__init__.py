"""What only Codex needs: which items are kept, what they say of their thread, and how rollout files spell them."""
