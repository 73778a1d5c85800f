"""HTTP/2 engines without I/O behind one port."""
