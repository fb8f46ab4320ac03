//! The kubelet server on port 10250.
