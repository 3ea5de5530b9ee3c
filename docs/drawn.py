"""Figures of nights that are planned or run when the site is built, by tutorials' settings; a second or two for all."""

from pages import picture


def write_ideas():
    """Draw three nights side by side."""
    import matplotlib.pyplot as plt

    import daynight as dn

    night = dn.Night(
        day=0, budget=dn.Steps(10**6), n_steps=10**6, steps_per_epoch=1,
        dawn_density=dn.kept_fraction_per_night(free_at_end=0.995, n_days=5),
    )  # fmt: skip
    shown = {
        "one prune": dn.OneShot(),
        "six equal cycles": dn.UniformCycles(6),
        "six cycles that lengthen": dn.GeometricCycles(6, 6.0),
    }
    figure, axes = plt.subplots(1, len(shown), figsize=(9.0, 2.6), sharey=True, layout="constrained")
    for ax, (title, policy) in zip(axes, shown.items(), strict=True):
        dn.plots.plan(policy.plan(night), ax=ax).set(title=title)
        ax.label_outer()
    picture("ideas_nights", figure, is_of_runs=False)
    plt.close(figure)


def write_hypnogram():
    """Draw the second day of a short run, with a night of eight cycles as in the tutorial on hypnograms."""
    import matplotlib.pyplot as plt

    import daynight as dn

    stream = dn.split_mnist(data="sample").hold_out(0.3)
    agent = dn.Agent(
        lambda: dn.models.MLP(784, 128, 128),
        capacity=dn.Capacity(free_at_end=0.995, days=len(stream)),
        training=dn.Training(batch_size=32),
        seed=0,
    )
    clock = dn.Clock(agent, stream, policy=dn.UniformCycles(8), wake=dn.Epochs(8), night=dn.Epochs(24))
    upper, _ = dn.plots.hypnogram(clock.run(until=2), day=1)
    picture("hypnogram", upper.figure, is_of_runs=False)
    plt.close(upper.figure)
