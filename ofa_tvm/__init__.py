"""Deploy the most accurate Once-for-All subnet that meets a latency budget on a device, by measurement."""

__version__ = "0.1.0"
