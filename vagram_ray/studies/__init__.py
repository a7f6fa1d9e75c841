"""The paper's studies that are no RL runs: Figure 1 (``loss_landscape``) and Figure 2 (``value_error``).

Each is one command (``python -m vagram_ray.studies.NAME``) that trains SAC on Pendulum with the project's own core,
computes the study and writes a folder of figures and numbers. They need Matplotlib.
"""
