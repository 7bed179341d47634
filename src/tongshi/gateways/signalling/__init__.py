"""SIP sockets and the flows that run over them."""
