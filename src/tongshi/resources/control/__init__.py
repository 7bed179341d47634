"""Settings of devices: asking, commanding, configuring; GB/T 28181-2022 9.3 and 9.5."""
