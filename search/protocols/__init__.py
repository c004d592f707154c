"""What is measured of a sweep's best configurations: which units there are, and their run on Ray."""
