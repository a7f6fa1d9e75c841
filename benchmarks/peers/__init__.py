"""Other projects' work, run by an interpreter that has their libraries; no code of ours is imported there."""
