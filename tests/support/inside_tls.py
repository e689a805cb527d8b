"""A program that says through the proxy, inside of TLS, what it is told to say."""

INSIDE_TLS = """
import socket, ssl, sys
host, port = sys.argv[1].rsplit(":", 1)
link = socket.create_connection(("127.0.0.1", 3128))
link.sendall(f"CONNECT {host}:{port} HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\n".encode())
link.recv(4096)
tls = ssl.create_default_context().wrap_socket(link, server_hostname=host)
assert tls.getpeercert()["issuer"]
tls.sendall(sys.argv[2].encode().decode("unicode_escape").encode())
said = b""
while piece := tls.recv(65536):
    said += piece
print(said.decode())
"""
"""Arguments: host and port, and what to send inside of TLS."""
