//! Node registration, lease, status and conditions.
