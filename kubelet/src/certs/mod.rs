//! Certificates: TLS bootstrap and rotation.
