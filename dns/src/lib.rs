//! coxswain-dns
