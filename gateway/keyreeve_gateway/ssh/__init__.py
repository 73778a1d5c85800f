"""SSH and SFTP: the command line of the appliance, and the file space of a server."""
