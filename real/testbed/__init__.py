"""The test bed: a device and a server as network namespaces of one machine, a lossy link between them."""
