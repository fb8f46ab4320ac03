//! CRI v1 over a Unix socket.
