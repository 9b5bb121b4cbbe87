"""Access: who a caller is, what it may do, and the certificate that the server shows."""
