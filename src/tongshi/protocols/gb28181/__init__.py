"""GB/T 28181 on top of SIP: command sets, catalogue, SDP, identifiers of streams."""
